"""For vLLM: a load format that stitches packs onto the model while it is loaded.

.. code-block:: console

    vllm serve /models/base --load-format stitchpack --model-loader-extra-config '{"packs": ["/packs/reviews.stitch"]}'

Installing this package is enough: vLLM finds :func:`register` by its entry point, in every process that it starts. The extra
configuration has ``packs`` (paths, ``[path, weight]``, or an object of paths and weights) or a ``recipe``, and, as :func:`stitchpack.open` has them, ``weights``, ``overlap``,
``lambda`` (or ``lambda_``), ``gain``, ``base_check``, ``mmap`` and ``threads``.

Written against the contract of ``BaseModelLoader`` as vLLM 0.9.2 to 0.28 document it, and tested with a stand-in for it.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Iterator, Tuple

from ._model import open as open_model
from .errors import InvalidInput

LOAD_FORMAT = "stitchpack"

_OPTIONS = {"packs", "recipe", "weights", "overlap", "lambda", "lambda_", "gain", "base_check", "mmap", "threads"}

_done = False


def register() -> None:
    """Tells vLLM of the load format. Called by vLLM, once or more in each process."""
    global _done
    if _done:
        return
    from vllm.model_executor.model_loader import BaseModelLoader, register_model_loader

    register_model_loader(LOAD_FORMAT)(_loader_class(BaseModelLoader))
    _done = True


def merge_options(extra: Any) -> Dict[str, Any]:
    """The extra configuration as arguments of :func:`stitchpack.open`."""
    if not isinstance(extra, dict) or not {"packs", "recipe"} & set(extra):
        raise InvalidInput(
            f'the load format {LOAD_FORMAT} wants its packs: --model-loader-extra-config \'{{"packs": ["task.stitch"]}}\''
        )
    unknown = sorted(set(extra) - _OPTIONS)
    if unknown:
        raise InvalidInput(f"model_loader_extra_config has {unknown[0]}, which is none of {', '.join(sorted(_OPTIONS))}")
    options = dict(extra)
    if "lambda" in options:
        options["lambda_"] = options.pop("lambda")
    options.setdefault("packs", [])
    return options


def _loader_class(base_class: Any) -> Any:
    class StitchpackModelLoader(base_class):
        """Loads the base with packs on it, tensor by tensor, under the names that the base's checkpoint has."""

        def __init__(self, load_config: Any) -> None:
            super().__init__(load_config)
            # Told when the engine starts, not when it has made the model.
            self._options = merge_options(load_config.model_loader_extra_config)

        def download_model(self, model_config: Any) -> None:
            self._base(model_config)

        def load_weights(self, model: Any, model_config: Any) -> None:
            loaded = model.load_weights(self._weights(self._base(model_config)))
            if loaded is None or getattr(model_config, "quantization", None) is not None:
                return
            missing = sorted({name for name, _ in model.named_parameters()} - set(loaded))
            if missing:
                raise ValueError(f"{len(missing)} parameters of the model are not in the base, the first {missing[0]}")

        def _weights(self, base: str) -> Iterator[Tuple[str, Any]]:
            with open_model(base, framework="pt", **self._options) as stitched:
                for name in stitched.keys():
                    yield name, stitched.get_tensor(name)

        def _base(self, model_config: Any) -> str:
            """The folder of the base, fetched where the model is a name on the hub."""
            model = getattr(model_config, "model_weights", None) or model_config.model
            if os.path.exists(model):
                return str(model)
            from vllm.model_executor.model_loader.weight_utils import download_weights_from_hf

            config, folder = self.load_config, ""
            # One after another: a call stops at the first pattern that finds something.
            for pattern in ("*.safetensors.index.json", "*.safetensors"):
                folder = download_weights_from_hf(
                    model, config.download_dir, [pattern], model_config.revision, ignore_patterns=config.ignore_patterns
                )
            return str(folder)

    return StitchpackModelLoader
