"""Packs written onto their base."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, Optional

from ._merge import BaseLike, Packs, PathLike, Progress, base_of, call_of, merge_of
from ._native import Model
from .errors import InvalidInput


@dataclass(frozen=True)
class Applied:
    """What was written."""

    path: Optional[str]
    """None where only the digest was computed."""
    nbytes: int
    """Bytes of the weight files."""
    touched_tensors: int
    checked: bool
    """Whether the result was compared with one that was recorded or expected."""
    recipe: Dict[str, Any]
    """Base, packs, rule and result: what ``stitch.json`` has in it."""

    @property
    def result(self) -> str:
        """The digest of the merged model."""
        return str(self.recipe["result"])


def apply(
    base: BaseLike,
    packs: Packs,
    out: PathLike,
    *,
    check: bool = False,
    expect: Optional[str] = None,
    force: bool = False,
    threads: int = 0,
    progress: Optional[Progress] = None,
    mmap: bool = True,
    **merge: Any,
) -> Applied:
    """Writes a base with packs on it: one file where ``out`` ends in ``.safetensors``, a model folder otherwise.

    check: fail unless the result is the one that the pack recorded (one pack, applied as it was made).
    expect: fail unless the result has this digest.
    force: replace ``out`` if it exists.
    weights, overlap, lambda_, gain, gains, base_check: as for :func:`stitchpack.open`.
    """
    return _apply(base, packs, os.fspath(out), check, expect, force, mmap, merge, call_of(threads, progress))


def lock(
    base: BaseLike,
    packs: Packs,
    *,
    expect: Optional[str] = None,
    threads: int = 0,
    progress: Optional[Progress] = None,
    mmap: bool = True,
    **merge: Any,
) -> Applied:
    """Computes what :func:`apply` would write, and writes nothing: the recipe, with the digest of the result."""
    return _apply(base, packs, None, False, expect, False, mmap, merge, call_of(threads, progress))


def _apply(
    base: BaseLike,
    packs: Packs,
    out: Optional[str],
    check: bool,
    expect: Optional[str],
    force: bool,
    mmap: bool,
    merge: Dict[str, Any],
    call: Dict[str, Any],
) -> Applied:
    merged = merge_of(packs, **merge)
    if not merged["packs"]:
        raise InvalidInput("name at least one pack")
    model = Model(base_of(base, mmap), merged, call)
    done = model.apply(out, check, expect, force, call)
    recipe = json.loads(done["recipe"])
    return Applied(out, done["nbytes"], done["touched"], done["checked"], recipe)
