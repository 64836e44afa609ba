"""What packs change, for other programs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, List, Optional

from ._merge import BaseLike, Packs, PathLike, Progress, base_of, call_of, merge_of
from ._native import Model


@dataclass(frozen=True)
class Exported:
    """What was written for another program."""

    path: str
    nbytes: int
    tensors: int
    changed: int
    """Positions that were written."""
    whole: List[str]
    """Tensors that were written whole."""
    base: Optional[str]
    result: Optional[str]
    """Digest of the model that the change leads to, where all of the base was read."""
    rank: Optional[int]
    """SHiRA's r."""


def export(
    base: BaseLike,
    packs: Packs,
    out: PathLike,
    *,
    format: str,
    force: bool = False,
    threads: int = 0,
    progress: Optional[Progress] = None,
    mmap: bool = True,
    **merge: Any,
) -> Exported:
    """Writes what packs change in a form that other programs read.

    format: ``weight-patch`` (positions and new values), ``safetensors-delta`` (positions and numbers to add), or ``shira`` (a
        folder that PEFT loads as a SHiRA adapter).
    weights, overlap, lambda_, gain, gains, base_check, recipe: as for :func:`stitchpack.open`.
    """
    merged, call = merge_of(packs, **merge), call_of(threads, progress)
    path = os.fspath(out)
    return Exported(path=path, **Model(base_of(base, mmap), merged, call).export(path, format, force, call))
