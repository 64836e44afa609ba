"""The vLLM load format against a stand-in for the part of vLLM that it meets: vLLM itself is too large to install here.

What the stand-in does is what vLLM's documentation of `BaseModelLoader`, `register_model_loader` and `LoadConfig` says.
"""

import sys
import types
from abc import ABC, abstractmethod
from importlib.metadata import entry_points

import pytest
import stitchpack
from common import bytes_of, needs, numbers, save, tuned

torch = needs("torch")


class LoadConfig:
    def __init__(self, load_format, model_loader_extra_config, download_dir=None, ignore_patterns=None):
        self.load_format = load_format
        self.model_loader_extra_config = model_loader_extra_config
        self.download_dir = download_dir
        self.ignore_patterns = ignore_patterns


class ModelConfig:
    revision = None
    quantization = None

    def __init__(self, model):
        self.model = model


class BaseModelLoader(ABC):
    def __init__(self, load_config):
        self.load_config = load_config

    @abstractmethod
    def download_model(self, model_config):
        raise NotImplementedError

    @abstractmethod
    def load_weights(self, model, model_config):
        raise NotImplementedError

    def load_model(self, make, model_config):
        model = make()
        self.load_weights(model, model_config)
        return model.eval()


@pytest.fixture
def vllm(monkeypatch):
    """The stand-in, where imports look for vLLM."""
    loaders = {}

    def register_model_loader(load_format):
        def wrapper(cls):
            assert issubclass(cls, BaseModelLoader)
            loaders[load_format] = cls
            return cls

        return wrapper

    def module(name, **names):
        made = types.ModuleType(name)
        made.__dict__.update(names)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    module("vllm")
    module("vllm.model_executor")
    module(
        "vllm.model_executor.model_loader",
        BaseModelLoader=BaseModelLoader,
        register_model_loader=register_model_loader,
        get_model_loader=lambda config: loaders[config.load_format](config),
    )
    downloads = []

    def download_weights_from_hf(model, cache_dir, allow_patterns, revision, ignore_patterns=None):
        downloads.append((model, cache_dir, allow_patterns, revision, ignore_patterns))
        return cache_dir

    module("vllm.model_executor.model_loader.weight_utils", download_weights_from_hf=download_weights_from_hf)
    monkeypatch.setattr("stitchpack.vllm._done", False)
    for entry in _entries():
        entry.load()()
    return types.SimpleNamespace(
        get_model_loader=sys.modules["vllm.model_executor.model_loader"].get_model_loader, loaders=loaders, downloads=downloads
    )


def _entries():
    found = entry_points()
    group = "vllm.general_plugins"
    return [e for e in (found.select(group=group) if hasattr(found, "select") else found[group]) if e.name == "stitchpack"]


@pytest.fixture
def made(folder, rng):
    values, base = numbers(rng)
    values = {n: v for n, v in values.items() if n.split(".")[0] in ("f32", "bf16")}
    base = {n: base[n] for n in values}
    (folder / "base").mkdir()
    save(folder / "base" / "model.safetensors", base)
    f = save(folder / "f.safetensors", tuned(rng, values))
    stitchpack.create(folder / "base", f, folder / "p.stitch", density=0.2)
    return folder / "base", folder / "p.stitch"


class Net(torch.nn.Module):
    """As models of vLLM do, it takes checkpoint tensors one by one and says what it has loaded: two of them fused into one."""

    def __init__(self):
        super().__init__()
        self.fused = torch.nn.Parameter(torch.zeros(80, 25, dtype=torch.bfloat16), requires_grad=False)
        self.single = torch.nn.Parameter(torch.zeros(40, 25), requires_grad=False)

    def load_weights(self, weights):
        loaded = set()
        for name, tensor in weights:
            if name.startswith("bf16"):
                start = 40 * int(name[-1])
                self.fused[start : start + 40].copy_(tensor)
                loaded.add("fused")
            elif name == "f32.0":
                self.single.copy_(tensor)
                loaded.add("single")
        return loaded


def test_a_model_is_loaded_with_packs(vllm, made):
    base, pack = made
    assert list(vllm.loaders) == ["stitchpack"] and len(_entries()) == 1
    extra = {"packs": [[str(pack), 0.5]], "overlap": "sum", "lambda": 1.5}
    loader = vllm.get_model_loader(LoadConfig("stitchpack", extra))
    config = ModelConfig(str(base))
    loader.download_model(config)
    model = loader.load_model(Net, config)
    expected = bytes_of(stitchpack.open(base, [(pack, 0.5)], overlap="sum", lambda_=1.5))
    raw = lambda t: t.contiguous().view(-1).view(torch.uint8).numpy().tobytes()  # noqa: E731
    assert raw(model.fused) == expected["bf16.0"][2] + expected["bf16.1"][2]
    assert raw(model.single) == expected["f32.0"][2]
    assert vllm.downloads == []


def test_a_model_on_the_hub_is_fetched_by_vllm(vllm, made):
    base, pack = made
    config = LoadConfig("stitchpack", {"packs": str(pack)}, download_dir=str(base), ignore_patterns=["original/**/*"])
    model = vllm.get_model_loader(config).load_model(Net, ModelConfig("somebody/some-model"))
    assert model.single.abs().sum() > 0
    assert [d[2] for d in vllm.downloads] == [["*.safetensors.index.json"], ["*.safetensors"]]
    assert {d[0] for d in vllm.downloads} == {"somebody/some-model"} and vllm.downloads[0][4] == ["original/**/*"]


def test_parameters_that_are_not_loaded_are_told(vllm, made):
    class More(Net):
        def __init__(self):
            super().__init__()
            self.other = torch.nn.Parameter(torch.zeros(3))

    loader = vllm.get_model_loader(LoadConfig("stitchpack", {"packs": [str(made[1])]}))
    with pytest.raises(ValueError, match="other"):
        loader.load_model(More, ModelConfig(str(made[0])))


@pytest.mark.parametrize("extra", [{}, None, {"pack": "x"}, {"packs": ["x"], "speed": 11}], ids=str)
def test_a_wrong_configuration_is_told_at_once(vllm, extra):
    with pytest.raises(stitchpack.InvalidInput):
        vllm.get_model_loader(LoadConfig("stitchpack", extra))


def test_another_base_is_refused(vllm, made, folder, rng):
    base, pack = made
    values, other = numbers(rng)
    (folder / "other").mkdir()
    save(folder / "other" / "model.safetensors", {n: t for n, t in other.items() if n.split(".")[0] in ("f32", "bf16")})
    loader = vllm.get_model_loader(LoadConfig("stitchpack", {"packs": [str(pack)]}))
    with pytest.raises(stitchpack.BaseMismatch):
        loader.load_model(Net, ModelConfig(str(folder / "other")))
