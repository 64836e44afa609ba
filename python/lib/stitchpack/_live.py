"""Packs swapped in a module of torch that runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union
from weakref import WeakKeyDictionary

import numpy as np

from ._dtypes import import_torch, torch_dtype
from ._merge import BaseLike, Packs, Progress, base_of, call_of, merge_of
from ._native import Base, Buffer, Model, Staged
from .errors import InvalidInput, Refused

Names = Union[Mapping[str, str], Callable[[str], Optional[str]], None]
"""From the names of a module's tensors to those of the checkpoint: a mapping, or a function that gives None for what is not in it."""


class StagedPacks:
    """A set of packs, computed: what :meth:`Live.commit` writes. Can be committed again and again."""

    def __init__(self, staged: Staged, live: Live) -> None:
        self._staged = staged
        self._live = live

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory: 4 + 2w for a kept element of w bytes."""
        return self._staged.nbytes


class Live:
    """A module that goes from one set of packs to another by writing only what either set keeps.

    >>> live = stitchpack.torch.Live(model, "base.safetensors")
    >>> reviews, languages = live.stage("reviews.stitch"), live.stage("languages.stitch")
    >>> live.commit(reviews)
    >>> live.commit(languages)
    >>> live.clear()

    Staging takes the time and can fail, while the module runs; committing only writes, and is for a moment in which nobody
    computes with the module. Nothing is ever added or subtracted: after any swaps the tensors have the bits of a fresh load. A commit
    that an exception ends, Ctrl-C too, leaves the set that was in play before.

    The module must hold the base, bit for bit, or ``held``, the packs that it was loaded with; between swaps nobody else may write
    to it. Its tensors have the base's dtypes
    and shapes, and are contiguous. ``names`` maps the names of its state dict to those of the base, where they differ; without it
    the prefix of a transformers base model is found. Tensors that the module has and the base has not are left alone.
    """

    def __init__(
        self,
        module: Any,
        base: BaseLike,
        held: Packs = (),
        *,
        names: Names = None,
        mmap: bool = True,
        check: bool = True,
        threads: int = 0,
        **merge: Any,
    ) -> None:
        self._base: Base = base_of(base, mmap)
        self._threads = threads
        self._tensors = _tensors_of(module, self._base, names)
        before = merge_of(held, **merge)
        if check:
            self._check_holds(before)
        self._empty = Staged(self._base, merge_of(), call_of(threads))
        self._held = Staged(self._base, before, call_of(threads)) if before["packs"] or before["recipe"] else self._empty
        self._torn: Optional[Staged] = None

    def _check_holds(self, merge: Dict[str, Any]) -> None:
        """Compares every tensor with what it is said to hold: a swap from any other state would give a mixture."""
        torch = import_torch()
        model = Model(self._base, merge, call_of(self._threads))
        wrong: List[str] = []
        for name, units in self._tensors.items():
            read = model.view(name) or model.read([name], call_of(self._threads))[0]
            expected = torch.from_numpy(np.array(read).view(f"<i{units.element_size()}"))
            if not torch.equal(units.cpu(), expected):
                wrong.append(name)
        if wrong:
            what = "the base with the packs in held" if merge["packs"] or merge["recipe"] else "the base"
            raise Refused(f"{some_names(wrong)} of the module do not hold {what}; load it anew")

    def stage(
        self, packs: Packs, *, threads: Optional[int] = None, progress: Optional[Progress] = None, **merge: Any
    ) -> StagedPacks:
        """Decodes, checks and computes what the packs keep. The module stays as it is.

        weights, overlap, lambda_, gain, gains, base_check, recipe: as for :func:`stitchpack.open`.
        """
        call = call_of(self._threads if threads is None else threads, progress)
        staged = Staged(self._base, merge_of(packs, **merge), call)
        missing = [name for name in staged.names() if name not in self._tensors]
        if missing:
            raise Refused(f"the packs touch {some_names(missing)}, which the module does not have; map them with names")
        self._check_tied(staged)
        return StagedPacks(staged, self)

    def commit(self, staged: StagedPacks) -> None:
        """Puts a staged set in the place of the one in play."""
        if staged._live is not self:
            raise InvalidInput("the packs were staged for another module")
        self._write(staged._staged)

    def clear(self) -> None:
        """Takes all packs out: the module holds the base."""
        self._write(self._empty)

    def _write(self, next_: Staged) -> None:
        self._mend()
        # From here on the tensors may hold some of both sets, whatever ends this: an error of torch, or Ctrl-C.
        self._torn = next_
        try:
            self._put(next_.updates(self._held))
            self._held = next_
            self._torn = None
        except BaseException:
            self._mend()
            raise

    def _mend(self) -> None:
        """Puts the set in play back, where writing another one was cut off."""
        if self._torn is not None:
            self._put(self._held.updates(self._torn))
            self._torn = None

    def _put(self, updates: Iterable[Tuple[str, str, List[int], Buffer, Buffer]]) -> None:
        torch = import_torch()
        with torch.no_grad():
            for name, _, _, positions, values in updates:
                units = self._tensors[name]
                where = torch.from_numpy(np.asarray(positions).view(np.int64)).to(units.device)
                new = torch.from_numpy(np.asarray(values).view(f"<i{units.element_size()}"))
                units[where] = new.to(units.device)

    def _check_tied(self, staged: Staged) -> None:
        """Two names of one tensor must be given the same."""
        places: Dict[Any, List[str]] = {}
        for name, units in self._tensors.items():
            if units.numel():
                places.setdefault((str(units.device), units.data_ptr()), []).append(name)
        tied = [names for names in places.values() if len(names) > 1]
        if not tied:
            return
        kept = {name: (np.asarray(at), np.asarray(values)) for name, _, _, at, values in staged.updates(None)}
        nothing = np.empty(0, np.uint8), np.empty(0, np.uint8)
        for first, *others in tied:
            for other in others:
                pairs = zip(kept.get(first, nothing), kept.get(other, nothing))
                if not all(np.array_equal(a, b) for a, b in pairs):
                    raise Refused(f'"{first}" and "{other}" are one tensor in the module, but the packs make them differ')

    @contextmanager
    def using(self, packs: Union[Packs, StagedPacks], **merge: Any) -> Iterator[None]:
        """Packs in play for the time of a ``with`` block; then those that were before."""
        before = self._held
        self.commit(packs if isinstance(packs, StagedPacks) else self.stage(packs, **merge))
        try:
            yield
        finally:
            self._write(before)


_LIVE: WeakKeyDictionary[Any, Live] = WeakKeyDictionary()


def swap(
    module: Any,
    packs: Packs,
    *,
    base: Optional[BaseLike] = None,
    held: Packs = (),
    names: Names = None,
    **merge: Any,
) -> Live:
    """Puts packs into a module that runs, in the place of those that a former call put there; no packs mean the base.

    The first call for a module names its base, which it must hold, or ``held``, the packs that it was loaded with. Gives the
    :class:`Live` of the module, with which sets of packs can be staged beforehand and committed many times.
    """
    live = _LIVE.get(module)
    if live is None:
        if base is None:
            raise InvalidInput("name the base of the module in the first call")
        live = _LIVE[module] = Live(module, base, held, names=names)
    elif base is not None and base_of(base).path != live._base.path:
        raise InvalidInput(f"the module is on the base {live._base.path}, not on {base_of(base).path}")
    live.commit(live.stage(packs, **merge))
    return live


def _tensors_of(module: Any, base: Base, names: Names) -> Dict[str, Any]:
    """The module's tensors by their names in the base, each as a flat view of integers of its element size."""
    torch = import_torch()
    model = Model(base, merge_of(base_check="touched"), call_of())
    known = set(model.names())
    own = module.state_dict(keep_vars=True)
    rename = renamer(names, own, known, module)
    out: Dict[str, Any] = {}
    for name, tensor in own.items():
        there = rename(name)
        if there is None or there not in known:
            continue
        dtype, shape, _, _ = model.info(there)
        _check_tensor(name, tensor, dtype, shape)
        if there in out:
            raise InvalidInput(f'two tensors of the module are "{there}" in the base')
        # Positions count elements, but the bytes of complex numbers.
        units = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
        kind = torch.int8 if dtype == "C64" else units[tensor.element_size()]
        out[there] = tensor.detach().view(-1).view(kind)
    if not out:
        raise InvalidInput("no tensor of the module has a name of the base; map them with names")
    return out


def some_names(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    more = len(names) - 1
    return f'"{names[0]}"' + (f" and {more} other{'s' * (more > 1)}" if more else "")


def renamer(names: Names, own: Mapping[str, Any], known: Any, module: Any) -> Callable[[str], Optional[str]]:
    """From a module's names to the base's."""
    if callable(names):
        return names
    if names is not None:
        return names.get
    prefix = getattr(module, "base_model_prefix", "")
    shorten = f"{prefix}."
    # A checkpoint of the bare model has no prefix, one of a model with a head has.
    if prefix and not any(name in known for name in own if name.startswith(shorten)):
        if any(name.startswith(shorten) for name in own):
            return lambda name: name[len(shorten) :] if name.startswith(shorten) else name
        if any(shorten + name in known for name in own):
            return lambda name: shorten + name
    return lambda name: name


def _check_tensor(name: str, tensor: Any, dtype: str, shape: Sequence[int]) -> None:
    def refuse(why: str) -> None:
        raise Refused(f'tensor "{name}" of the module {why}')

    if tensor.dtype != torch_dtype(dtype):
        refuse(f"has dtype {tensor.dtype}, the base has {dtype}; load the module in the base's dtype")
    if list(tensor.shape) != list(shape):
        refuse(f"has shape {list(tensor.shape)}, the base has {list(shape)}")
    if not tensor.is_contiguous():
        refuse("is not contiguous; make it so (tensor.contiguous()) before it is swapped")
    if tensor.device.type == "meta":
        refuse("is on the meta device and holds nothing")
