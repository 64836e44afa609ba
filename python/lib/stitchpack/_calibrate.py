"""Gains of several packs, calibrated together."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional

from . import _native
from ._learn import Gradient, lesson_of
from ._merge import BaseLike, PackGain, Packs, Progress, base_of, call_of, merge_of
from .errors import InvalidInput


def calibrate(
    base: BaseLike,
    packs: Packs,
    gradient: Gradient,
    *,
    learn: Optional[Mapping[str, Any]] = None,
    threads: int = 0,
    progress: Optional[Progress] = None,
    mmap: bool = True,
    **merge: Any,
) -> List[PackGain]:
    """Gains with which packs do well together, for each pack one a tensor: the ``gains`` of :func:`open` and :func:`apply`.

    ``gradient`` is what :func:`create` takes: a function from the parameters, a dictionary of float32 arrays by tensor name with the
    values of the merged model, to a loss and its gradients by name. The loss is of all tasks together, such as the sum of what each
    task loses as a share of what the base loses on it.

    learn: how to learn, by name: ``steps`` (evaluations), ``seed``, ``rate``, ``lambda_``.
    weights, overlap, lambda_, gain, gains, base_check: how the packs are merged, and where their gains begin, as for :func:`open`.
    """
    lesson = lesson_of(gradient, learn, ("steps", "seed", "rate", "lambda_"))
    merged = merge_of(packs, **merge)
    if not merged["packs"]:
        raise InvalidInput("name at least one pack")
    return [PackGain(*found) for found in _native.calibrate(base_of(base, mmap), merged, lesson, call_of(threads, progress))]
