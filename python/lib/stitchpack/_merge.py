"""Arguments that several functions share, made into what the native module takes."""

from __future__ import annotations

import os
from numbers import Real
from typing import AbstractSet, Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ._native import Base, Pack
from ._recipe import RecipeLike, recipe_of
from .errors import InvalidInput

PathLike = Union[str, "os.PathLike[str]"]
PackLike = Union[PathLike, Pack]
OnePack = Union[PackLike, Tuple[PackLike, float]]
Packs = Union[OnePack, Iterable[Union[OnePack, Sequence[Any]]], Mapping[PackLike, float], Mapping[str, float]]
"""A pack, several of them, pairs of a pack and its weight, or a mapping from packs to weights."""
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


def tuned_of(model: BaseLike, mmap: bool = True) -> Union[Base, str]:
    """Opens a fine-tuned model; the folder of an adapter stays a path, since it says nothing without its base."""
    return adapter_of(model) or base_of(model, mmap)


def adapter_of(model: BaseLike) -> Optional[str]:
    """The path of an adapter's folder; None for a model."""
    if isinstance(model, Base):
        return None
    path = os.fspath(model)
    return path if os.path.isfile(os.path.join(path, "adapter_config.json")) else None


def pairs_of(packs: Packs, weights: Optional[Sequence[float]] = None) -> List[Tuple[Pack, Optional[float]]]:
    """Every pack with the weight that was said: its own, or that of ``weights``."""
    named = _each(packs)
    if weights is not None:
        if isinstance(weights, (str, Mapping)) or not isinstance(weights, Iterable):
            raise InvalidInput("weights is a list, one number for each pack; give a mapping of packs to weights as packs")
        weights = list(weights)
        if len(weights) != len(named):
            raise InvalidInput(f"{len(weights)} weights for {len(named)} packs; give one for each")
        if any(weight is not None for _, weight in named):
            raise InvalidInput("a pack has a weight beside it and one in weights; give it one")
        named = [(pack, weight) for (pack, _), weight in zip(named, weights)]
    numbers = [None if weight is None else _number(weight) for _, weight in named]
    return [(pack_of(pack), number) for (pack, _), number in zip(named, numbers)]


def _each(packs: Packs) -> List[Tuple[Any, Any]]:
    if _is_pack(packs):
        return [(packs, None)]
    if _is_pair(packs):
        return [(packs[0], packs[1])]  # type: ignore[index]
    if isinstance(packs, Mapping):
        return [_weighed(pack, weight) for pack, weight in packs.items()]
    if isinstance(packs, AbstractSet):
        raise InvalidInput("a set of packs has no order; give a list")
    if not isinstance(packs, Iterable) or isinstance(packs, (bytes, bytearray, memoryview)):
        raise InvalidInput(_no_pack(packs))
    return [_one(item) for item in packs]


def _one(item: Any) -> Tuple[Any, Any]:
    if _is_pack(item):
        return item, None
    if _is_pair(item):
        return item[0], item[1]
    if isinstance(item, Mapping) and len(item) == 1:
        return _weighed(*next(iter(item.items())))
    raise InvalidInput(_no_pack(item))


def _weighed(pack: Any, weight: Any) -> Tuple[Any, Any]:
    if not _is_pack(pack):
        raise InvalidInput(_no_pack(pack))
    return pack, _number(weight)


def _number(weight: Any) -> float:
    if not isinstance(weight, Real) or isinstance(weight, bool):
        raise InvalidInput(f"{weight!r} is no weight: give a number")
    return float(weight)


def _no_pack(item: Any) -> str:
    if isinstance(item, (bytes, bytearray, memoryview)):
        return "bytes are no path of a pack; Pack.from_bytes makes a pack of them"
    return f"{item!r} is no pack: give a path, a Pack, a pair of one of them and a weight, or a mapping of packs to weights"


def packs_of(packs: Any) -> List[Pack]:
    """Packs where a weight means nothing."""
    pairs = pairs_of(packs)
    if any(weight is not None for _, weight in pairs):
        raise InvalidInput("packs are looked at one by one here, so that a weight means nothing; leave the weights out")
    return [pack for pack, _ in pairs]


def _is_pack(item: Any) -> bool:
    return isinstance(item, (str, os.PathLike, Pack))


def _is_pair(item: Any) -> bool:
    return isinstance(item, (tuple, list)) and len(item) == 2 and _is_pack(item[0]) and isinstance(item[1], Real)


def merge_of(
    packs: Packs = (),
    weights: Optional[Sequence[float]] = None,
    overlap: Optional[str] = None,
    lambda_: Optional[float] = None,
    gain: Union[str, float, None] = None,
    base_check: str = "cached",
    gains: Optional[Gains] = None,
    recipe: Optional[RecipeLike] = None,
) -> Dict[str, Any]:
    """How packs are merged, as the native module takes it."""
    followed = recipe_of(recipe)
    if followed is not None:
        said = {"weights": weights, "overlap": overlap, "lambda_": lambda_, "gain": gain, "gains": gains}
        other = [name for name, value in said.items() if value is not None]
        if other:
            raise InvalidInput(f"a recipe says how its packs are merged; leave {other[0]} out")
    return {
        "packs": pairs_of(packs, weights),
        "recipe": None if followed is None else (followed.to_json(), followed.path),
        "overlap": overlap,
        "gains": None if gains is None else _gains_of(gains, gain),
        "lambda_": 1.0 if lambda_ is None else float(lambda_),
        "gain": "auto" if gain is None else str(gain),
        "base_check": base_check,
    }


def _gains_of(gains: Gains, gain: Union[str, float, None]) -> List[Tuple[float, Dict[str, float]]]:
    if gain is not None:
        raise InvalidInput("gain and gains both say what the packs are amplified by; use one")
    if isinstance(gains, (str, Mapping)):
        raise InvalidInput("gains is a list, one for each pack in their order; a mapping is for the tensors of one pack")
    pairs = [PackGain(float(own)) if isinstance(own, Real) else PackGain(*own) for own in gains]
    return [(float(own), {name: float(x) for name, x in tensors.items()}) for own, tensors in pairs]


def some(merge: Dict[str, Any]) -> Dict[str, Any]:
    """The same, which has packs."""
    if not (merge["packs"] or merge["recipe"]):
        raise InvalidInput("name at least one pack")
    return merge


def call_of(threads: int = 0, progress: Optional[Progress] = None) -> Dict[str, Any]:
    """How a long call is made, as the native module takes it."""
    return {"threads": threads, "progress": progress}
