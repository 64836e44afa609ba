"""What is true of a pack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional, Union

from . import _native
from ._merge import BaseLike, PathLike, Progress, base_of, call_of, pack_of
from ._native import Pack


@dataclass(frozen=True)
class Verified:
    """What is true of a pack, and what nobody can know from it."""

    id: str
    proved: List[str] = field(default_factory=list)
    not_proved: List[str] = field(default_factory=list)


def verify(
    pack: Union[PathLike, Pack],
    base: Optional[BaseLike] = None,
    *,
    expect_id: Optional[str] = None,
    base_check: str = "full",
    mmap: bool = True,
    threads: int = 0,
    progress: Optional[Progress] = None,
) -> Verified:
    """Checks every digest of a pack, decodes what is in it, and, with a base, checks that it is the pack's.

    Raises what is wrong; what it gives says what was proved and what was not.
    """
    pack = pack_of(pack)
    opened = None if base is None else base_of(base, mmap)
    decoded = _native.verify(pack, opened, base_check, expect_id, call_of(threads, progress))
    proved = ["integrity: every byte is under a digest that matches" + (", and everything decodes" if decoded else "")]
    if expect_id is not None:
        proved.append("identity: the id is the expected one")
    if base is not None:
        part = (
            "the touched tensors of the base are the right ones" if base_check == "touched" else "the base is the right one, whole"
        )
        proved.append(f"base: {part}")
    not_proved = ["harmlessness: a verified pack can still hold a bad model"]
    if not decoded:
        not_proved.insert(0, "content: it is coded by what the base has; give the base to decode it")
    if base is None:
        not_proved.insert(0, "base: none was given")
    if expect_id is None:
        not_proved.insert(0, "origin: compare the id with one from a source you trust (expect_id)")
    return Verified(pack.id, proved, not_proved)
