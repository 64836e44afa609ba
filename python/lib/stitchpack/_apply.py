"""Packs written onto their base."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, Optional

from . import _native
from ._merge import BaseLike, Packs, PathLike, Progress, base_of, call_of, merge_of, some
from ._recipe import Recipe
from .errors import InvalidInput


@dataclass(frozen=True)
class Applied:
    """What was written."""

    path: Optional[str]
    """The model, or the recipe of a model that was only computed; None where nothing was written."""
    nbytes: int
    """Bytes of the weight files."""
    touched_tensors: int
    checked: bool
    """Whether the result was compared with one that was recorded or expected."""
    recipe: Recipe
    """What the model is made of."""

    @property
    def result(self) -> str:
        """The digest of the merged model."""
        return str(self.recipe.result)


def apply(
    base: BaseLike,
    packs: Packs = (),
    out: Optional[PathLike] = None,
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
    recipe: make the model of this recipe and no other: also the result has to be the recipe's.
    weights, overlap, lambda_, gain, gains, base_check: as for :func:`stitchpack.open`.
    """
    if out is None:
        raise InvalidInput("apply writes a model; say where (out)")
    path, call = os.fspath(out), call_of(threads, progress)
    done = _native.apply(base_of(base, mmap), some(merge_of(packs, **merge)), path, check, expect, force, call)
    return _applied(path, done, None)


def lock(
    base: BaseLike,
    packs: Packs = (),
    out: Optional[PathLike] = None,
    *,
    expect: Optional[str] = None,
    force: bool = False,
    threads: int = 0,
    progress: Optional[Progress] = None,
    mmap: bool = True,
    **merge: Any,
) -> Applied:
    """Computes what :func:`apply` would write: the recipe, with the digest of the result. Writes nothing but the recipe, to ``out``."""
    path, call = None if out is None else os.fspath(out), call_of(threads, progress)
    done = _native.lock(base_of(base, mmap), some(merge_of(packs, **merge)), path, expect, force, call)
    return _applied(path, done, path)


def _applied(path: Optional[str], done: Dict[str, Any], file: Optional[str]) -> Applied:
    recipe = Recipe.from_json(done["recipe"], file)
    return Applied(path, done["nbytes"], done["touched"], done["checked"], recipe)
