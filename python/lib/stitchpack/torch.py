"""For torch and transformers: models loaded with packs on them, packs swapped in a model that runs, packs learned from data."""

from __future__ import annotations

from typing import Any, Dict

from ._live import Live, StagedPacks, swap
from ._localize import localize
from ._merge import BaseLike, Packs
from ._model import load_file

__all__ = ["Live", "StagedPacks", "localize", "state_dict", "swap"]


def state_dict(base: BaseLike, packs: Packs = (), *, device: Any = None, **options: Any) -> Dict[str, Any]:
    """All tensors of a base with packs on it, as torch tensors by name.

    For transformers: ``AutoModel.from_pretrained(None, config=config, state_dict=state_dict(base, packs))``. The options are those of
    :func:`stitchpack.open`.
    """
    tensors = load_file(base, packs, framework="pt", **options)
    return tensors if device is None else {name: tensor.to(device) for name, tensor in tensors.items()}
