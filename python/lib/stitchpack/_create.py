"""Packs made of a base and a fine-tuned model."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, List, Mapping, Optional, Sequence, Union

from . import _native
from ._learn import Gradient, lesson_of
from ._merge import BaseLike, Packs, PathLike, Progress, base_of, call_of, merge_of, tuned_of
from .errors import InvalidInput


@dataclass(frozen=True)
class Created:
    """What was made."""

    id: str
    """The digest that names the file."""
    content_id: str
    """The digest of what it decodes to."""
    pack_bytes: int
    fine_tuned_bytes: int
    touched_tensors: int
    candidates: int
    """Elements of the included float tensors."""
    changed: int
    kept: int
    energy_kept: float
    """The share of the task vector's squared norm that the kept elements hold."""
    gain: float
    exact: bool
    """Whether the pack, applied alone, gives the whole fine-tuned model bit for bit."""
    all_steps: bool
    """Whether all that it touches is stored as exact steps."""
    unchanged_in_mask: int
    carried: List[str]
    skipped: List[str]
    only_in_base: List[str]
    differing_files: List[str]
    path: Optional[str] = None
    """None for a dry run."""

    @property
    def size_share(self) -> float:
        """Bytes of the pack for each of the fine-tuned model's."""
        return self.pack_bytes / max(self.fine_tuned_bytes, 1)


def create(
    base: BaseLike,
    fine_tuned: BaseLike,
    out: Optional[PathLike],
    *,
    size: Union[str, int, None] = None,
    density: Union[str, float, None] = None,
    exact: bool = False,
    require_exact: bool = False,
    values: Optional[str] = None,
    scope: Optional[str] = None,
    groups: Optional[str] = None,
    rescale: Union[str, float, None] = None,
    scores: Optional[BaseLike] = None,
    mask: Optional[BaseLike] = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    cast: bool = False,
    new_tensors: str = "refuse",
    carry_files: bool = False,
    notes: Optional[Mapping[str, Any]] = None,
    after: Packs = (),
    gradient: Optional[Gradient] = None,
    learn: Optional[Mapping[str, Any]] = None,
    effort: str = "default",
    force: bool = False,
    base_check: str = "cached",
    mmap: bool = True,
    threads: int = 0,
    progress: Optional[Progress] = None,
) -> Created:
    """Makes a pack of the difference between a base and a fine-tuned model. With ``out=None`` nothing is written.

    ``fine_tuned`` is a file, a folder, or the folder of a LoRA or SHiRA adapter as PEFT saves it.

    Nothing said means ``size="1%"``: the best pack for a share of the fine-tuned model's bytes, exact where that fits.

    size: a share such as ``"1%"``, or bytes: ``"20MB"``, ``2_000_000``.
    density: instead, the share of the float elements to keep: ``0.05`` or ``"5%"``.
    exact: instead, the fine-tuned model bit for bit, whatever that costs.
    require_exact: an error rather than a lossy pack, where the exact one does not fit ``size``.
    values: how kept deltas are stored: ``f32``, ``f16``, ``bf16``, ``int8``, ``int4``, ``sign`` or ``codebook``.
    scope: among which elements the largest are taken: ``global`` or ``tensor``.
    groups: which positions share a scale: ``tensor`` or ``row``.
    rescale: what the gain makes up for: ``none``, ``energy``, ``l1``, ``balanced`` or a factor.
    scores, mask: safetensors files by tensor name: keep the largest scores, or what a mask keeps.
    include, exclude: globs of tensor names.
    cast: round fine-tuned values to the base's dtype where the dtypes differ.
    new_tensors: tensors that only the fine-tuned model has: ``refuse``, ``carry`` or ``skip``.
    carry_files: take companion files that differ (tokenizer, chat template …) into the pack.
    notes: what to write on the pack.
    after: make the pack for the result of these packs: the next link of a chain.
    gradient: learn which positions to keep from a loss of your own: a function that gets the parameters, a dictionary of float32
        arrays by tensor name, and, where it takes two arguments, a :class:`Batch`; it gives the loss and a dictionary of
        gradients, float32 arrays by name. See :func:`stitchpack.torch.localize` for torch.
    learn: how to learn, by name: ``path`` (evaluations on the way from base to fine-tuned model), ``steps`` (evaluations for the
        gains), ``seed``, ``rate``, ``lambda_``.
    effort: how hard to compress: ``fast``, ``default`` or ``small``.
    force: replace ``out`` if it exists.
    """
    how = {
        "size": None if size is None else str(size),
        "density": _decimal(density),
        "exact": exact,
        "require_exact": require_exact,
        "values": values,
        "scope": scope,
        "groups": groups,
        "rescale": None if rescale is None else str(rescale),
        "scores": None if scores is None else base_of(scores, mmap),
        "mask": None if mask is None else base_of(mask, mmap),
        "include": list(include),
        "exclude": list(exclude),
        "cast": cast,
        "new_tensors": new_tensors,
        "carry_files": carry_files,
        "notes": {str(key): str(value) for key, value in (notes or {}).items()},
        "effort": effort,
        "force": force,
        "base_check": base_check,
        "lesson": lesson_of(gradient, learn),
    }
    path = None if out is None else os.fspath(out)
    tuned = tuned_of(fine_tuned, mmap)
    made = _native.create(base_of(base, mmap), tuned, path, merge_of(after, base_check=base_check), how, call_of(threads, progress))
    return created_of(made)


def created_of(made: str) -> Created:
    """A report of the native module."""
    report = json.loads(made)
    return Created(**{field.name: report[field.name] for field in fields(Created)})


def _decimal(density: Union[str, float, None]) -> Optional[str]:
    """A density as it was written: 0.1 means a tenth, not the double nearest to it."""
    if density is None or isinstance(density, str):
        return density
    try:
        return format(Decimal(repr(float(density))), "f")
    except (TypeError, ValueError, ArithmeticError):
        raise InvalidInput(f"density {density!r} is no number") from None
