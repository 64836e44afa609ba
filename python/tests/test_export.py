"""What packs change, for other programs: the same as the command writes, and what it says leads to the stitched model."""

import json

import numpy as np
import pytest
import stitchpack
from common import load, numbers, run, save, tuned


@pytest.fixture
def made(folder, rng):
    values, base = numbers(rng)
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", tuned(rng, values))
    stitchpack.create(b, f, folder / "p.stitch", density=0.1)
    return b, folder / "p.stitch"


@pytest.mark.parametrize("format", ["weight-patch", "safetensors-delta"])
def test_files_are_those_of_the_command(made, folder, format):
    b, p = made
    done = stitchpack.export(b, [(p, 0.5)], folder / "py.safetensors", format=format)
    run("export", b, f"{p}@0.5", "--format", format, "-o", folder / "cli.safetensors")
    assert (folder / "py.safetensors").read_bytes() == (folder / "cli.safetensors").read_bytes()
    assert done.nbytes == (folder / "py.safetensors").stat().st_size and done.tensors > 0 and done.rank is None
    assert done.result == stitchpack.lock(b, [(p, 0.5)]).result


def test_a_patch_leads_to_the_model(made, folder):
    b, p = made
    done = stitchpack.export(b, p, folder / "x.safetensors", format="weight-patch")
    patch, base = load(folder / "x.safetensors"), load(b)
    changed = 0
    for name, (dtype, shape, data) in stitched(b, p).items():
        if f"{name}.indices" in patch:
            size = len(data) // int(np.prod(shape))
            units = np.frombuffer(base[name][2], f"u{size}").copy()
            at = np.frombuffer(patch[f"{name}.indices"][2], "<i4")
            units[at] = np.frombuffer(patch[f"{name}.values"][2], f"u{size}")
            assert units.tobytes() == data
            changed += len(at)
        else:
            assert base[name][2] == data
    assert changed == done.changed > 0


def stitched(b, p):
    with stitchpack.open(b, p) as model:
        return {n: (model.get_dtype(n), model.get_shape(n), model.get_bytes(n).tobytes()) for n in model.keys()}


def test_shira_is_a_folder(folder, rng):
    names = ["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight"]
    base = {n: rng.normal(0, 1, (32, 24)).astype("f4") for n in names}
    fine = {n: v + (rng.random(v.shape) < 0.05) * np.float32(0.5) for n, v in base.items()}
    paths = [
        save(folder / f"{i}.safetensors", {n: ("F32", [32, 24], v.astype("<f4").tobytes()) for n, v in w.items()})
        for i, w in enumerate((base, fine))
    ]
    stitchpack.create(*paths, folder / "p.stitch", exact=True)
    done = stitchpack.export(paths[0], folder / "p.stitch", folder / "shira", format="shira")
    run("export", paths[0], folder / "p.stitch", "--format", "shira", "-o", folder / "cli")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (folder / "shira" / name).read_bytes() == (folder / "cli" / name).read_bytes()
    assert json.loads((folder / "shira" / "adapter_config.json").read_text())["r"] == done.rank


def test_what_is_refused(made, folder):
    b, p = made
    with pytest.raises(stitchpack.InvalidInput, match="format"):
        stitchpack.export(b, p, folder / "x.safetensors", format="gguf")
    with pytest.raises(stitchpack.Refused):
        stitchpack.export(b, p, folder / "shira", format="shira")
