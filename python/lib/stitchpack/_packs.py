"""Packs: made, checked, and written onto their base."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Union

from . import _native
from ._learn import Gradient, lesson_of
from ._merge import BaseLike, Packs, PathLike, Progress, base_of, call_of, merge_of, pack_of
from ._native import Base, Model, Pack
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
    """Whether the pack gives back the fine-tuned model bit for bit."""
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


@dataclass(frozen=True)
class Applied:
    """What was written."""

    path: Optional[str]
    """None where only the digest was computed."""
    nbytes: int
    """Bytes of the weight files."""
    touched_tensors: int
    checked: bool
    """Whether the result was compared with one that was recorded or expected."""
    recipe: Dict[str, Any]
    """Base, packs, rule and result: what ``stitch.json`` has in it."""

    @property
    def result(self) -> str:
        """The digest of the merged model."""
        return str(self.recipe["result"])


@dataclass(frozen=True)
class Exported:
    """What was written for another program."""

    path: str
    nbytes: int
    tensors: int
    changed: int
    """Positions that were written."""
    whole: List[str]
    """Tensors that were written whole."""
    base: Optional[str]
    result: Optional[str]
    """Digest of the model that the change leads to, where all of the base was read."""
    rank: Optional[int]
    """SHiRA's r."""


@dataclass(frozen=True)
class Verified:
    """What is true of a pack, and what nobody can know from it."""

    id: str
    proved: List[str] = field(default_factory=list)
    not_proved: List[str] = field(default_factory=list)


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
    tuned = os.fspath(fine_tuned) if _is_adapter(fine_tuned) else base_of(fine_tuned, mmap)
    made = _native.create(base_of(base, mmap), tuned, path, merge_of(after), how, call_of(threads, progress))
    return Created(path=path, **made)


def _is_adapter(model: BaseLike) -> bool:
    return not isinstance(model, Base) and os.path.isfile(os.path.join(os.fspath(model), "adapter_config.json"))


def _decimal(density: Union[str, float, None]) -> Optional[str]:
    """A density as it was written: 0.1 means a tenth, not the double nearest to it."""
    if density is None or isinstance(density, str):
        return density
    try:
        return format(Decimal(repr(float(density))), "f")
    except (TypeError, ValueError, ArithmeticError):
        raise InvalidInput(f"density {density!r} is no number") from None


def apply(
    base: BaseLike,
    packs: Packs,
    out: PathLike,
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
    weights, overlap, lambda_, gain, base_check: as for :func:`stitchpack.open`.
    """
    return _apply(base, packs, os.fspath(out), check, expect, force, mmap, merge, call_of(threads, progress))


def lock(
    base: BaseLike,
    packs: Packs,
    *,
    expect: Optional[str] = None,
    threads: int = 0,
    progress: Optional[Progress] = None,
    mmap: bool = True,
    **merge: Any,
) -> Applied:
    """Computes what :func:`apply` would write, and writes nothing: the recipe, with the digest of the result."""
    return _apply(base, packs, None, False, expect, False, mmap, merge, call_of(threads, progress))


def _apply(
    base: BaseLike,
    packs: Packs,
    out: Optional[str],
    check: bool,
    expect: Optional[str],
    force: bool,
    mmap: bool,
    merge: Dict[str, Any],
    call: Dict[str, Any],
) -> Applied:
    merged = merge_of(packs, **merge)
    if not merged["packs"]:
        raise InvalidInput("name at least one pack")
    model = Model(base_of(base, mmap), merged, call)
    done = model.apply(out, check, expect, force, call)
    recipe = json.loads(done["recipe"])
    return Applied(out, done["nbytes"], done["touched"], done["checked"], recipe)


def export(
    base: BaseLike,
    packs: Packs,
    out: PathLike,
    *,
    format: str,
    force: bool = False,
    threads: int = 0,
    progress: Optional[Progress] = None,
    mmap: bool = True,
    **merge: Any,
) -> Exported:
    """Writes what packs change in a form that other programs read.

    format: ``weight-patch`` (positions and new values), ``safetensors-delta`` (positions and numbers to add), or ``shira`` (a
        folder that PEFT loads as a SHiRA adapter).
    weights, overlap, lambda_, gain, base_check: as for :func:`stitchpack.open`.
    """
    merged, call = merge_of(packs, **merge), call_of(threads, progress)
    path = os.fspath(out)
    return Exported(path=path, **Model(base_of(base, mmap), merged, call).export(path, format, force, call))


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
        part = "the touched tensors of the base are the right ones" if base_check == "touched" else "the base is the right one, whole"
        proved.append(f"base: {part}")
    not_proved = ["harmlessness: a verified pack can still hold a bad model"]
    if not decoded:
        not_proved.insert(0, "content: it is coded by what the base has; give the base to decode it")
    if base is None:
        not_proved.insert(0, "base: none was given")
    if expect_id is None:
        not_proved.insert(0, "origin: compare the id with one from a source you trust (expect_id)")
    return Verified(pack.id, proved, not_proved)
