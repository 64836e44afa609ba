"""A gradient in Python, as the native module asks for it."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ._native import Buffer
from .errors import InvalidInput


class Batch(NamedTuple):
    """Which rows to take: a function that chooses them by these numbers alone makes the same pack again."""

    seed: int
    step: int
    """Number of the batch, from 0. One of them is asked for several times."""
    steps: int
    """How many batches there will be."""


Arrays = Dict[str, "np.ndarray[Any, Any]"]
Gradient = Callable[..., Tuple[float, Mapping[str, "np.ndarray[Any, Any]"]]]

_OPTIONS = ("path", "steps", "seed", "rate", "lambda_")


def lesson_of(
    gradient: Optional[Gradient], learn: Optional[Mapping[str, Any]], known: Sequence[str] = _OPTIONS
) -> Optional[Dict[str, Any]]:
    """What the native module takes: None where nothing is to be learned."""
    options = dict(learn or {})
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InvalidInput(f"learn has {unknown[0]}, which is none of {', '.join(known)}")
    if gradient is None:
        if options:
            raise InvalidInput("learn says how to learn from a gradient; give one")
        return None
    lesson: Dict[str, Any] = {name: options.get(name) for name in _OPTIONS}
    return {"gradient": _evaluator(gradient), **lesson}


def _evaluator(gradient: Gradient) -> Callable[..., Tuple[float, Dict[str, bytes]]]:
    takes_batch = _takes_batch(gradient)

    def evaluate(
        batch: Tuple[int, int, int], parameters: Sequence[Tuple[str, List[int], Buffer]]
    ) -> Tuple[float, Dict[str, bytes]]:
        arrays = {name: np.asarray(buffer).view("<f4").reshape(shape) for name, shape, buffer in parameters}
        shapes = {name: array.shape for name, array in arrays.items()}
        loss, found = gradient(arrays, Batch(*batch)) if takes_batch else gradient(arrays)
        return float(loss), {name: _bytes_of(name, value, shapes) for name, value in found.items()}

    return evaluate


def _takes_batch(gradient: Gradient) -> bool:
    try:
        inspect.signature(gradient).bind({}, Batch(0, 0, 0))
    except TypeError:
        return False
    except ValueError:  # no signature to be had
        return True
    return True


def _bytes_of(name: str, value: Any, shapes: Mapping[str, Tuple[int, ...]]) -> bytes:
    if name not in shapes:
        raise InvalidInput(f'there is a gradient of "{name}", which is no parameter')
    array = np.asarray(value)
    if array.dtype != np.float32 or array.shape != shapes[name]:
        wanted = f"float32 of shape {list(shapes[name])}"
        raise InvalidInput(f'the gradient of "{name}" is {array.dtype} of shape {list(array.shape)}, must be {wanted}')
    return array.astype("<f4", copy=False).tobytes()
