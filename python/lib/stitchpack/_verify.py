"""What is true of packs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Union

from . import _native
from ._merge import BaseLike, PathLike, Progress, base_of, call_of, pack_of
from ._native import Pack
from .errors import InvalidInput


@dataclass(frozen=True)
class Claim:
    """Something that is proved of a pack, or not."""

    claim: str
    """A stable word: ``integrity``, ``identity``, ``origin``, ``touched-tensors``, ``base``, ``outcome``, ``content``, ``harmlessness``."""
    text: str
    """A sentence for people."""


@dataclass(frozen=True)
class VerifiedPack:
    """What is true of one pack."""

    path: str
    id: str
    proved: List[Claim]
    not_proved: List[Claim]


@dataclass(frozen=True)
class Verified:
    """What is true of packs, and what nobody can know from them."""

    ids: List[str]
    proved: List[str]
    """What holds for every pack, each a claim and a sentence."""
    not_proved: List[str]
    packs: List[VerifiedPack]

    @property
    def id(self) -> str:
        """The id of the only pack."""
        if len(self.ids) != 1:
            raise InvalidInput(f"there are {len(self.ids)} packs; use ids")
        return self.ids[0]


def verify(
    packs: Union[PathLike, Pack, Sequence[Union[PathLike, Pack]]],
    base: Optional[BaseLike] = None,
    *,
    expect_id: Optional[str] = None,
    result: Optional[BaseLike] = None,
    base_check: str = "full",
    mmap: bool = True,
    threads: int = 0,
    progress: Optional[Progress] = None,
) -> Verified:
    """Checks every digest of packs, decodes what is in them, and, with a base, checks that it is the packs'.

    Raises the first thing that is wrong. The result says what was proved and what was not.

    packs: one pack or several; packs that were made after others need the base.
    expect_id: the id that the pack must have (one pack only).
    result: check that this model is the result: of one pack as it recorded it, or, with a base, of all packs.
    """
    named = [packs] if isinstance(packs, (str, os.PathLike, Pack)) else list(packs)
    opened = None if base is None else base_of(base, mmap)
    model = None if result is None else base_of(result, mmap)
    each = [pack_of(pack) for pack in named]
    found = json.loads(_native.verify(each, opened, base_check, expect_id, model, call_of(threads, progress)))

    def claims(rows: List[Dict[str, str]]) -> List[Claim]:
        return [Claim(row["claim"], row["text"]) for row in rows]

    verdicts = [VerifiedPack(p["path"], p["id"], claims(p["proved"]), claims(p["not_proved"])) for p in found["packs"]]
    return Verified(found["ids"], found["proved"], found["not_proved"], verdicts)
