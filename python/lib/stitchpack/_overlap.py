"""How much tasks collide."""

from __future__ import annotations

import json
from typing import List, Optional, Sequence, Union

from . import _native
from ._merge import BaseLike, PathLike, Progress, base_of, call_of, packs_of
from ._native import Pack
from ._record import Record
from .errors import InvalidInput


class Overlap(Record):
    """What two packs share: ``packs`` (their places in the list), ``kept``, ``shared``, ``by_chance``, ``opposite``, ``tensors``."""


def overlap(
    packs: Sequence[Union[PathLike, Pack]],
    base: Optional[BaseLike] = None,
    *,
    mmap: bool = True,
    threads: int = 0,
    progress: Optional[Progress] = None,
) -> List[Overlap]:
    """Compares every two packs: the positions that both keep, against chance, and how many of those have opposite signs.

    The base is needed for packs that are coded by what it has, such as exact ones. Packs of different bases are compared all the
    same, by names and shapes of tensors.
    """
    named = packs_of(packs)
    if len(named) < 2:
        raise InvalidInput("name at least two packs")
    opened = None if base is None else base_of(base, mmap)
    found = _native.overlap(named, opened, call_of(threads, progress))
    return [Overlap(fields) for fields in json.loads(found)["overlaps"]]
