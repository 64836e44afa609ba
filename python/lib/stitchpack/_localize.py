"""Learned localization with torch: which weights to keep, from batches of data and a loss."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from . import _native
from ._create import create
from ._diff import diff
from ._dtypes import import_torch, tensor_of
from ._learn import Arrays, Batch
from ._live import Names, renamer, some_names
from ._merge import BaseLike, PathLike, base_of, call_of, tuned_of
from ._model import open as open_model
from ._native import Base, Buffer, Pack
from .errors import InvalidInput, Refused

Loss = Callable[[Any, Any], Any]
"""From the module and a batch to a scalar tensor."""


def localize(
    base: BaseLike,
    fine_tuned: BaseLike,
    model: Any,
    loss: Optional[Loss],
    batches: Iterable[Any],
    *,
    out: Optional[PathLike] = None,
    names: Names = None,
    learn: Optional[Mapping[str, Any]] = None,
    mmap: bool = True,
    **how: Any,
) -> Pack:
    """Makes a pack whose positions and gains are learned from the gradient of a loss.

    ``fine_tuned`` is a file, a folder, or the folder of a LoRA or SHiRA adapter; of what an adapter makes of the base one tensor is
    held at a time.

    ``model`` is a module of the base's architecture; what it holds does not matter, and is there again afterwards. It is refused, by
    name, where the checkpoints do not fill all of it, or where it lacks a tensor that the pack may keep: what is learned with such a
    module is noise. Tensors that ``new_tensors="carry"`` takes along are the fine-tuned model's throughout. Evaluation ``i``
    takes ``batches[i % len(batches)]``; all of them are held at once, and so are the fine-tuned model's logits of each. A batch is
    given to the module as keywords where it is a mapping, as arguments where it is a tuple or list, else as the only argument.

    loss: from the module and a batch to a scalar tensor. None: how far the module's logits are from those of the fine-tuned
        model (the Kullback-Leibler divergence), which needs no labels.
    out: where to write the pack; None keeps it in memory.
    names: from the names of the module's state dict to those of the checkpoints, where they differ.
    learn: how to learn, as for :func:`stitchpack.create`.
    size, density, values …: how large the pack may be and how it is made, as for :func:`stitchpack.create`.
    """
    batches = list(batches)
    if not batches:
        raise InvalidInput("there are no batches to learn from")
    start, goal = base_of(base, mmap), tuned_of(fine_tuned, mmap)
    with _borrowed(model) as tensors:
        module = _Module(model, tensors, names, start, goal, how)
        if loss is None:
            module.load_goal()
            loss = _divergence([_logits(model, batch) for batch in batches], batches)
        module.load_start()
        lesson = _Lesson(module, loss, batches)
        if out is not None:
            create(start, goal, out, gradient=lesson, learn=learn, mmap=mmap, **how)
            return Pack(str(Path(out)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "learned.stitch"
            create(start, goal, path, gradient=lesson, learn=learn, mmap=mmap, **how)
            return Pack.from_bytes(path.read_bytes())


@contextmanager
def _borrowed(model: Any) -> Iterator[Dict[str, Any]]:
    """The tensors of a module, which has its own values, flags and gradients back when this ends, however it ends."""
    torch = import_torch()
    tensors = dict(model.state_dict(keep_vars=True))
    before = {name: (t.detach().clone(), t.requires_grad, t.grad) for name, t in tensors.items()}
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield tensors
    finally:
        with torch.no_grad():
            for name, (values, needs_gradient, gradient) in before.items():
                tensors[name].copy_(values)
                tensors[name].requires_grad_(needs_gradient)
                tensors[name].grad = gradient
        for module, mode in training.items():
            module.training = mode


class _Module:
    """A module whose tensors are known by their names in the checkpoints, and all of which the checkpoints fill."""

    def __init__(
        self,
        model: Any,
        tensors: Mapping[str, Any],
        names: Names,
        start: Base,
        goal: Union[Base, str],
        how: Mapping[str, Any],
    ) -> None:
        self.model = model
        self._start, self._goal = start, goal
        known, self._carried = _shapes(start), set()
        if isinstance(goal, Base) and how.get("new_tensors") == "carry":
            there = _shapes(goal)
            self._carried = {name for name in there if known.get(name) != there[name]}
            known.update({name: there[name] for name in self._carried})
        self.tensors = self._match(tensors, names, known)
        unfilled = self._unfilled(tensors)
        missing = self._missing(known, how)
        if unfilled or missing:
            raise Refused(_partial(model, unfilled, missing))

    def _match(self, tensors: Mapping[str, Any], names: Names, known: Mapping[str, List[int]]) -> Dict[str, Any]:
        rename = renamer(names, tensors, known, self.model)
        out: Dict[str, Any] = {}
        for own, tensor in tensors.items():
            name = rename(own)
            if name is None or name not in known:
                continue
            if list(tensor.shape) != known[name]:
                raise InvalidInput(f'"{own}" of the module has shape {list(tensor.shape)}, the base has {known[name]}')
            if tensor.device.type == "meta":
                raise Refused(f'"{own}" of the module is on the meta device and holds nothing')
            if name in out and out[name].data_ptr() != tensor.data_ptr():
                raise InvalidInput(f'two tensors of the module are "{name}" in the base')
            out[name] = tensor
        if not out:
            raise InvalidInput("no tensor of the module has a name of the base; map them with names")
        return out

    def _unfilled(self, tensors: Mapping[str, Any]) -> List[str]:
        """Tensors of the module that no checkpoint says anything of. A tied one is filled under its other name."""
        filled = {_place(tensor) for tensor in self.tensors.values()}
        # Integers count and index, and are made by the module itself.
        return [name for name, t in tensors.items() if t.is_floating_point() and t.numel() and _place(t) not in filled]

    def _missing(self, known: Mapping[str, List[int]], how: Mapping[str, Any]) -> List[str]:
        """Tensors that the pack may keep and the module does not have."""
        lacking = {name for name in known if name not in self.tensors}
        if not lacking:
            return []
        picked = {name: how[name] for name in ("include", "exclude", "cast") if name in how}
        changed = diff(self._start, self._goal, **picked).tensors
        return sorted(t.name for t in changed if t.name in lacking and t.norm > 0 and t.same_as not in self.tensors)

    def load_start(self) -> None:
        """Takes the values of the base, and of what is carried along whole."""
        self._load(self._start, [name for name in self.tensors if name not in self._carried])
        if isinstance(self._goal, Base):
            self._load(self._goal, [name for name in self.tensors if name in self._carried])

    def load_goal(self) -> None:
        """Takes the values of the fine-tuned model."""
        if isinstance(self._goal, Base):
            self._load(self._goal, list(self.tensors))
        else:
            self.load_start()
            self._load_adapter(self._goal)

    def _load(self, checkpoint: Base, names: Sequence[str]) -> None:
        torch = import_torch()
        with open_model(checkpoint, framework="pt", base_check="touched") as there, torch.no_grad():
            absent = [name for name in names if name not in there]
            if absent:
                raise Refused(f"the fine-tuned model does not have {some_names(absent)}, which base and module have; give a loss")
            for name in names:
                self._fill(name, there.get_tensor(name))

    def _load_adapter(self, adapter: str) -> None:
        def take(name: str, dtype: str, shape: List[int], buffer: Buffer) -> None:
            if name in self.tensors:
                self._fill(name, tensor_of(buffer, dtype, shape, "pt"))

        _native.adapted(self._start, adapter, take, call_of())

    def _fill(self, name: str, values: Any) -> None:
        own = self.tensors[name]
        if own.shape != values.shape:
            raise Refused(f'the fine-tuned model has "{name}" in shape {list(values.shape)}, the module in {list(own.shape)}')
        with import_torch().no_grad():
            own.copy_(values)


def _shapes(checkpoint: Base) -> Dict[str, List[int]]:
    with open_model(checkpoint, base_check="touched") as there:
        return {name: there.get_shape(name) for name in there.keys()}


def _place(tensor: Any) -> Tuple[str, int]:
    return str(tensor.device), tensor.data_ptr()


def _partial(model: Any, unfilled: Sequence[str], missing: Sequence[str]) -> str:
    """Why a module that matches in part is refused."""
    why = []
    if unfilled:
        why.append(f"its {some_names(unfilled)} have no values in the base")
    if missing:
        why.append(f"it does not have {some_names(missing)}, which the fine-tune changed")
    advice = "map names that differ with names, leave tensors out with exclude, or keep a head of your own in the loss"
    return f"{type(model).__name__} matches the checkpoints only in part: {', and '.join(why)}; {advice}"


class _Lesson:
    """The gradient of a loss with respect to the tensors that are learned about."""

    def __init__(self, module: _Module, loss: Loss, batches: Sequence[Any]) -> None:
        self._module = module
        self._loss = loss
        self._batches = batches

    def __call__(self, parameters: Arrays, batch: Batch) -> Tuple[float, Arrays]:
        torch = import_torch()
        own = {name: self._module.tensors[name] for name in parameters if name in self._module.tensors}
        if not own:
            raise InvalidInput("the module has none of the tensors that the pack may keep")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(torch.from_numpy(parameters[name]).reshape(tensor.shape))
        for tensor in own.values():
            tensor.requires_grad_(True)
            tensor.grad = None
        with torch.enable_grad():
            loss = self._loss(self._module.model, self._batches[batch.step % len(self._batches)])
            loss.backward()
        gradients = {name: t.grad for name, t in own.items() if t.grad is not None}
        return float(loss.detach()), {name: _array(grad, parameters[name].shape) for name, grad in gradients.items()}


def _array(gradient: Any, shape: Tuple[int, ...]) -> "np.ndarray[Any, Any]":
    torch = import_torch()
    return gradient.detach().to("cpu", torch.float32).contiguous().numpy().reshape(shape)  # type: ignore[no-any-return]


def _logits(model: Any, batch: Any) -> Any:
    """What a module says of a batch, without a gradient."""
    with import_torch().no_grad():
        return _answer(model, batch).detach().float().cpu()


def _answer(model: Any, batch: Any) -> Any:
    torch = import_torch()
    if isinstance(batch, Mapping):
        out = model(**batch)
    elif isinstance(batch, (tuple, list)):
        out = model(*batch)
    else:
        out = model(batch)
    logits = out if torch.is_tensor(out) else getattr(out, "logits", None)
    if logits is None:
        raise InvalidInput("the module gives neither a tensor nor logits to compare; give a loss")
    return logits


def _divergence(goals: List[Any], batches: Sequence[Any]) -> Loss:
    """The mean divergence of a module's distributions from those of the fine-tuned model."""
    torch = import_torch()
    places = {id(batch): goal for batch, goal in zip(batches, goals)}

    def loss(model: Any, batch: Any) -> Any:
        logits = _answer(model, batch).float()
        goal = places[id(batch)].to(logits.device)
        sums = torch.nn.functional.kl_div(logits.log_softmax(-1), goal.log_softmax(-1), log_target=True, reduction="sum")
        return sums / max(logits[..., 0].numel(), 1)

    return loss
