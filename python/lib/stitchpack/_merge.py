"""Arguments that several functions share, made into what the native module takes."""

from __future__ import annotations

import os
from numbers import Real
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ._native import Base, Pack
from .errors import InvalidInput

PathLike = Union[str, "os.PathLike[str]"]
OnePack = Union[PathLike, Pack, Tuple[Union[PathLike, Pack], float]]
Packs = Union[OnePack, Iterable[OnePack]]
Progress = Callable[[str, int, int], Any]
BaseLike = Union[PathLike, Base]


class PackGain(NamedTuple):
    """What the deltas of one pack are amplified by."""

    gain: float
    tensors: Mapping[str, float] = {}
    """Gains of tensors that have another, by name."""


Gains = Sequence[Union[float, PackGain, Tuple[float, Mapping[str, float]]]]


def base_of(base: BaseLike, mmap: bool = True) -> Base:
    """Opens a base, unless that was done."""
    return base if isinstance(base, Base) else Base(os.fspath(base), mmap=mmap)


def pack_of(pack: Union[PathLike, Pack]) -> Pack:
    """Opens a pack, unless that was done."""
    return pack if isinstance(pack, Pack) else Pack(os.fspath(pack))


def pairs_of(packs: Packs, weights: Optional[Sequence[float]] = None) -> List[Tuple[Pack, float]]:
    """Every pack with its weight: its own, that of ``weights``, or 1."""
    named = list(_each(packs))
    if weights is not None:
        if len(weights) != len(named):
            raise InvalidInput(f"{len(weights)} weights for {len(named)} packs; give one for each")
        if any(weight is not None for _, weight in named):
            raise InvalidInput("a pack has a weight beside it and one in weights; give it one")
        named = [(pack, weight) for (pack, _), weight in zip(named, weights)]
    return [(pack_of(pack), 1.0 if weight is None else float(weight)) for pack, weight in named]


def _each(packs: Packs) -> Iterable[Tuple[Any, Optional[float]]]:
    if _is_pack(packs):
        return [(packs, None)]
    if _is_pair(packs):
        return [packs]  # type: ignore[list-item]
    out: List[Tuple[Any, Optional[float]]] = []
    for item in packs:  # type: ignore[union-attr]
        if _is_pair(item):
            out.append(tuple(item))  # type: ignore[arg-type]
        elif _is_pack(item):
            out.append((item, None))
        else:
            raise InvalidInput(f"{item!r} is no pack: give a path, a Pack, or a pair of one of them and a weight")
    return out


def _is_pack(item: Any) -> bool:
    return isinstance(item, (str, os.PathLike, Pack))


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and _is_pack(item[0]) and isinstance(item[1], Real)


def merge_of(
    packs: Packs = (),
    weights: Optional[Sequence[float]] = None,
    overlap: Optional[str] = None,
    lambda_: float = 1.0,
    gain: Union[str, float] = "auto",
    base_check: str = "cached",
    gains: Optional[Gains] = None,
) -> Dict[str, Any]:
    """How packs are merged, as the native module takes it."""
    return {
        "packs": pairs_of(packs, weights),
        "overlap": overlap,
        "lambda_": float(lambda_),
        "gain": str(gain),
        "gains": None if gains is None else _gains_of(gains, gain),
        "base_check": base_check,
    }


def _gains_of(gains: Gains, gain: Union[str, float]) -> List[Tuple[float, Dict[str, float]]]:
    if gain != "auto":
        raise InvalidInput("gain and gains both say what the packs are amplified by; use one")
    pairs = [PackGain(float(own)) if isinstance(own, Real) else PackGain(*own) for own in gains]
    return [(float(own), {name: float(x) for name, x in tensors.items()}) for own, tensors in pairs]


def call_of(threads: int = 0, progress: Optional[Progress] = None) -> Dict[str, Any]:
    """How a long call is made, as the native module takes it."""
    return {"threads": threads, "progress": progress}
