"""Packs made into one."""

from __future__ import annotations

import os
from typing import Any, Optional

from ._create import Created, created_of
from ._merge import BaseLike, Packs, PathLike, Progress, base_of, call_of, merge_of, some
from ._native import Model


def fold(
    base: BaseLike,
    packs: Packs,
    out: PathLike,
    *,
    effort: str = "default",
    force: bool = False,
    threads: int = 0,
    progress: Optional[Progress] = None,
    mmap: bool = True,
    **merge: Any,
) -> Created:
    """Makes one pack of a chain, or of several packs of one base under a rule and weights.

    The pack gives the folded model bit for bit. A folded merge is marked as such: merging it with other packs averages averages.

    effort: how hard to compress: ``fast``, ``default`` or ``small``.
    force: replace ``out`` if it exists.
    weights, overlap, lambda_, gain, base_check, recipe: as for :func:`stitchpack.open`.
    """
    merged, call, path = some(merge_of(packs, **merge)), call_of(threads, progress), os.fspath(out)
    return created_of(Model(base_of(base, mmap), merged, call).fold(path, effort, force, call))
