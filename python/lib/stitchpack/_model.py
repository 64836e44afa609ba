"""A base with packs on it, read as one reads a safetensors file."""

from __future__ import annotations

import os
from operator import index as as_index
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np

from ._dtypes import array_of, check_framework, item_size, numpy_dtype, raw_array, tensor_of, torch_dtype, units_array
from ._merge import BaseLike, Gains, Packs, Progress, base_of, call_of, merge_of
from ._native import Model
from ._recipe import RecipeLike
from .errors import InvalidInput


def open(  # noqa: A001 - the name people know
    base: BaseLike,
    packs: Packs = (),
    *,
    framework: str = "np",
    weights: Optional[Sequence[float]] = None,
    overlap: Optional[str] = None,
    lambda_: Optional[float] = None,
    gain: Union[str, float, None] = None,
    gains: Optional[Gains] = None,
    recipe: Optional[RecipeLike] = None,
    mmap: bool = True,
    base_check: str = "cached",
    threads: int = 0,
    progress: Optional[Progress] = None,
) -> StitchedModel:
    """Puts packs on their base. Tensors are stitched when they are asked for.

    ``base`` is a safetensors file or a Hugging Face folder; ``packs`` are paths, ``Pack`` objects, or pairs of one of these and a
    weight. A pack that was made after others goes onto their result.

    framework: ``"np"`` for numpy arrays, ``"pt"`` for torch tensors.
    overlap: where packs keep the same position: ``average`` (default), ``weighted-average``, ``sum``, ``elect``, ``max``,
        ``priority`` or ``refuse``.
    lambda_: a factor of everything that is added to the base (1).
    gain: the gain of lossy packs: ``auto`` (default), ``stored``, ``none`` or a number.
    gains: instead, a gain for each pack, as :func:`stitchpack.calibrate` gives them.
    recipe: a :class:`Recipe`, or the path of one: it says which packs, with which weights and gains, under which rule. ``packs`` are
        then only places where they may be; the others are looked for beside the recipe's file and here, by their ids.
    mmap: map the base into memory. Its files must then stay as they are: one that is truncated ends the process. False reads them.
    base_check: how much of the base is read to know it: ``full``, ``touched`` or ``cached``.
    threads: 0 is one a core.
    progress: called now and then as ``progress(stage, done, total)``, in bytes of model; returning False ends the work.

    Raises what is in :mod:`stitchpack.errors`: ``BaseMismatch`` for a pack of another base, ``DigestMismatch`` for a damaged one.
    """
    merge = merge_of(packs, weights, overlap, lambda_, gain, base_check, gains, recipe)
    model = Model(base_of(base, mmap), merge, call_of(threads, progress))
    again = {"mmap": mmap, "framework": framework, "threads": threads, "base": base, "merge": merge}
    return StitchedModel(model, check_framework(framework), threads, again)


def load_file(
    base: BaseLike,
    packs: Packs = (),
    *,
    framework: str = "np",
    copy: bool = True,
    threads: int = 0,
    progress: Optional[Progress] = None,
    **options: Any,
) -> Dict[str, Any]:
    """All tensors of a base with packs on it, by name: what ``safetensors.numpy.load_file`` gives for a merged file.

    With ``copy=False`` tensors that no pack touches are read-only views of the base's mapping (numpy only). The other options
    are those of :func:`open`.
    """
    with open(base, packs, framework=framework, threads=threads, progress=progress, **options) as model:
        return model.get_tensors(copy=copy, progress=progress)


class StitchedModel:
    """A base with packs on it, to be read like ``safetensors.safe_open``. Made by :func:`stitchpack.open`.

    Any number of threads may read at once; a forked or pickled copy opens or inherits the same files.
    """

    def __init__(self, model: Model, framework: str, threads: int, again: Dict[str, Any]) -> None:
        self._open: Optional[Model] = model
        self._framework = framework
        self._threads = threads
        self._again = again

    def __enter__(self) -> StitchedModel:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __reduce__(self) -> Tuple[Any, ...]:
        again = dict(self._again)
        base = again["base"]
        again["base"] = os.fspath(base if isinstance(base, (str, os.PathLike)) else base.path)
        return _reopen, (again,)

    def close(self) -> None:
        """Lets the base and the packs go. Arrays that were given out stay as they are."""
        self._open = None

    @property
    def _model(self) -> Model:
        if self._open is None:
            raise InvalidInput("the model is closed")
        return self._open

    def keys(self) -> List[str]:
        """Names of all tensors, in byte order."""
        return self._model.names()

    def __iter__(self) -> Iterable[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def metadata(self) -> Dict[str, str]:
        """The ``__metadata__`` of the base's files."""
        return self._model.metadata()

    def get_dtype(self, name: str) -> str:
        """The dtype as safetensors names it, such as ``BF16``."""
        return self._model.info(name)[0]

    def get_shape(self, name: str) -> List[int]:
        """The dimensions, outermost first."""
        return list(self._model.info(name)[1])

    def touches(self, name: str) -> bool:
        """Whether a pack touches the tensor."""
        return self._model.info(name)[2]

    def get_tensor(self, name: str, *, copy: bool = False) -> Any:
        """One tensor. With numpy one that no pack touches is a read-only view of the base's mapping, unless ``copy`` is set."""
        return self.get_tensors([name], copy=copy)[name]

    def get_tensors(
        self, names: Optional[Iterable[str]] = None, *, copy: bool = False, progress: Optional[Progress] = None
    ) -> Dict[str, Any]:
        """Several tensors by name (None: all), made by all threads together."""
        model, out = self._model, {}
        names = list(self.keys() if names is None else names)
        infos = {name: model.info(name) for name in names}
        for dtype in {info[0] for info in infos.values()}:
            # A dtype that cannot be given is told before the work, not after.
            numpy_dtype(dtype) if self._framework == "np" else torch_dtype(dtype)
        if not copy and self._framework == "np":
            views = ((name, model.view(name)) for name in names)
            out = {name: view for name, view in views if view is not None}
        rest = [name for name in infos if name not in out]
        out.update(zip(rest, model.read(rest, call_of(self._threads, progress))))
        return {name: tensor_of(out[name], infos[name][0], infos[name][1], self._framework) for name in names}

    def get_slice(self, name: str) -> TensorSlice:
        """A tensor of which only what is indexed is made: ``model.get_slice(name)[10:20]``."""
        return TensorSlice(self._model, name, self._framework)

    def get_bytes(self, name: str, start: int = 0, end: Optional[int] = None) -> "np.ndarray[Any, Any]":
        """The little-endian bytes of a tensor, or those from ``start`` to ``end``, for any dtype."""
        total = self._model.info(name)[3]
        end = total if end is None else end
        if not 0 <= start <= end <= total:
            raise InvalidInput(f'tensor "{name}" has {total} bytes, not those from {start} to {end}')
        view = self._model.view(name)
        if view is not None:
            return raw_array(view)[start:end]
        if end - start == total:
            return raw_array(self._model.read([name], call_of(self._threads))[0])
        return raw_array(self._model.read_range(name, start, end))


class TensorSlice:
    """A tensor that is stitched as far as it is indexed: the rows of its first dimension that are asked for."""

    def __init__(self, model: Model, name: str, framework: str) -> None:
        self._model = model
        self._name = name
        self._framework = framework
        self._dtype, self._shape = model.info(name)[:2]

    def get_shape(self) -> List[int]:
        """The dimensions of the whole tensor."""
        return list(self._shape)

    def get_dtype(self) -> str:
        """The dtype as safetensors names it."""
        return self._dtype

    def __getitem__(self, index: Any) -> Any:
        # As for whole tensors: a dtype that cannot be given is told before the work.
        numpy_dtype(self._dtype) if self._framework == "np" else torch_dtype(self._dtype)
        index = index if isinstance(index, tuple) else (index,)
        view = self._model.view(self._name)
        if view is not None:
            picked = units_array(view, self._dtype, self._shape)[index]
        else:
            rows, index = self._rows(index)
            picked = self._read(rows)[index]
        return array_of(np.asarray(picked), self._dtype, self._framework)

    def _rows(self, index: Tuple[Any, ...]) -> Tuple[Tuple[int, int], Tuple[Any, ...]]:
        """Which rows have to be made, and the index into them."""
        count = self._shape[0] if self._shape else 1
        first = index[0] if index else Ellipsis
        if not self._shape or first is Ellipsis or first is None or isinstance(first, (bool, np.bool_)):
            return (0, count), index
        if isinstance(first, slice):
            picked = range(*first.indices(count))
            if len(picked) == 0:
                return (0, 0), (slice(0, 0), *index[1:])
            low, high = min(picked[0], picked[-1]), max(picked[0], picked[-1]) + 1
            # What is before the first row is nowhere: a step down ends with None.
            stop = picked[-1] - low + (1 if picked.step > 0 else -1)
            return (low, high), (slice(picked[0] - low, None if stop < 0 else stop, picked.step), *index[1:])
        try:
            row = as_index(first)
        except TypeError:
            return (0, count), index
        if not -count <= row < count:
            raise IndexError(f'row {row} of tensor "{self._name}", which has {count}')
        row %= count
        return (row, row + 1), (0, *index[1:])

    def _read(self, rows: Tuple[int, int]) -> "np.ndarray[Any, Any]":
        start, end = rows
        row = int(np.prod(self._shape[1:], dtype=np.int64)) * item_size(self._dtype)
        buffer = self._model.read_range(self._name, start * row, end * row)
        shape = [end - start, *self._shape[1:]] if self._shape else []
        return units_array(buffer, self._dtype, shape)


def _reopen(again: Dict[str, Any]) -> StitchedModel:
    model = Model(base_of(again["base"], again["mmap"]), again["merge"], call_of(again["threads"]))
    return StitchedModel(model, check_framework(again["framework"]), again["threads"], again)
