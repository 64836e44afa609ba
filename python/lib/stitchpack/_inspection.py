"""What a pack is and where its bytes went: as attributes, as a dictionary, and as HTML for notebooks."""

from __future__ import annotations

import html
import json
from typing import Any, Dict, Iterable, List, Optional, Tuple, Union

from . import _native
from ._merge import BaseLike, PathLike, base_of, call_of, pack_of
from ._native import Pack
from ._record import Record

_MOST_TENSORS = 12


def inspect(pack: Union[PathLike, Pack], base: Optional[BaseLike] = None, *, mmap: bool = True, threads: int = 0) -> Inspection:
    """Verifies a pack and looks at all of it. With the base also what is coded by what the base has is decoded and counted."""
    opened = None if base is None else base_of(base, mmap)
    return Inspection(json.loads(_native.inspect(pack_of(pack), opened, call_of(threads))))


class Inspection(Record):
    """What a pack is. ``id``, ``exact``, ``all_steps``, ``gain``, ``bytes``, ``totals``, ``cost``, ``origin``, ``notes``, ``tensors``, ``modules`` …"""

    @property
    def notes(self) -> Dict[str, str]:
        """What the maker wrote on the pack."""
        return dict(self._fields["notes"])

    def _repr_html_(self) -> str:
        found = self._fields
        facts = [
            ("pack id", found["id"]),
            ("file", f"{found['bytes']['file']:,} bytes"),
            ("gives", _outcome(found)),
            ("kept", f"{found['totals']['kept']:,} weights of {found['totals']['tensors']:,} tensors"),
            ("base", found["base"]),
            *found["notes"].items(),
        ]
        tensors = sorted(found["tensors"], key=lambda t: -t["kept"])[:_MOST_TENSORS]
        rows = [(t["name"], t["dtype"], f"{t['kept']:,}", _percent(t["density"])) for t in tensors]
        return (
            _table([], facts)
            + _table(["bytes", ""], _parts(found["bytes"]))
            + _table(["tensors that keep most", "dtype", "kept", "density"], rows)
        )


def _outcome(found: Dict[str, Any]) -> str:
    if found["exact"]:
        return "the whole fine-tuned model bit for bit"
    if found["all_steps"]:
        return "exact steps, but not all of the fine-tuned model"
    return f"a lossy delta, gain {found['gain']:.4g}"


def _parts(sizes: Dict[str, Any]) -> List[Tuple[str, str]]:
    named = [(f"masks, {part['name']}", part["bytes"]) for part in sizes["masks"]]
    named += [(f"values, {part['name']}", part["bytes"]) for part in sizes["values"]]
    named += [(name, sizes[name]) for name in ("header", "tables", "files", "manifest", "digests")]
    return [(name, f"{size:,} ({_percent(size / max(sizes['file'], 1))})") for name, size in named if size > 0]


def _percent(share: Optional[float]) -> str:
    return "–" if share is None else f"{100 * share:.3g} %"


def _table(head: List[str], rows: Iterable[Tuple[str, ...]]) -> str:
    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag} style='text-align:left'>{_safe(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table>{line(head, 'th') if head else ''}{body}</table>"


def _safe(text: str) -> str:
    """Text from a file: no markup, and no marks that hide or turn what follows."""
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:200])
    return html.escape(shown)
