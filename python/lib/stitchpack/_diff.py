"""What changed between a base and a fine-tuned model."""

from __future__ import annotations

import json
from typing import Optional, Sequence

from . import _native
from ._merge import BaseLike, Progress, base_of, call_of, tuned_of
from ._record import Record


class Diff(Record):
    """What changed: ``elements``, ``changed``, ``norm``, ``base_norm``, ``energy``, ``tensors``, and what only one side has."""


def diff(
    base: BaseLike,
    fine_tuned: BaseLike,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    cast: bool = False,
    mmap: bool = True,
    threads: int = 0,
    progress: Optional[Progress] = None,
) -> Diff:
    """Compares a base with a fine-tuned model, a file or a folder, or the folder of an adapter, before anything is packed.

    include, exclude: globs of tensor names.
    cast: compare values where the dtypes differ, the fine-tuned ones rounded to the base's dtype.
    """
    tuned = tuned_of(fine_tuned, mmap)
    call = call_of(threads, progress)
    return Diff(json.loads(_native.diff(base_of(base, mmap), tuned, list(include), list(exclude), cast, call)))
