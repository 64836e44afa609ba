"""Adapters as PEFT saves them: the exact pack of one gives the base with the adapter on it, to the last bit."""

import json

import numpy as np
import pytest
import stitchpack
from common import bytes_of, floats, run, save
from stitchpack import _native
from stitchpack._dtypes import raw_array
from stitchpack._merge import call_of

MODULES = {"model.layers.0.self_attn.q_proj": (24, 40), "model.layers.0.mlp.down_proj": (32, 16)}


def bf16(numbers):
    """Bits of the bfloat16 numbers nearest to some, ties to even: exact in 64 bits for what is neither tiny nor huge."""
    quantum = 2.0 ** (np.floor(np.log2(np.abs(np.where(numbers == 0, 1, numbers)))) - 7)
    rounded = (np.rint(numbers / quantum) * quantum).astype("<f4")
    return (rounded.view("<u4") >> 16).astype("<u2")


def widened(bits):
    return (bits.astype("<u4") << 16).view("<f4")


@pytest.fixture
def base(folder, rng):
    weights = {f"{m}.weight": bf16(rng.normal(0, 0.05, shape)) for m, shape in MODULES.items()}
    weights["model.norm.weight"] = bf16(np.ones(40))
    path = save(folder / "base.safetensors", {n: ("BF16", list(w.shape), w.tobytes()) for n, w in weights.items()})
    return path, weights


def adapter(folder, config, tensors):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {
        f"base_model.model.{n}": ("F32", list(t.shape), floats("F32", t))
        if t.dtype == "f4"
        else ("I32", list(t.shape), t.astype("<i4").tobytes())
        for n, t in tensors.items()
    }
    save(folder / "adapter_model.safetensors", tensors)
    return folder


def tensors_of(path, pack):
    with stitchpack.open(path, pack) as model:
        return {n: t[2] for n, t in bytes_of(model).items()}


def test_a_lora_becomes_an_exact_pack(folder, rng, base):
    path, weights = base
    rank, alpha = 4, 12
    parts, expected = {}, {n: w.tobytes() for n, w in weights.items()}
    for module, (rows, columns) in MODULES.items():
        a, b = rng.normal(0, 0.3, (rank, columns)).astype("f4"), rng.normal(0, 0.3, (rows, rank)).astype("f4")
        parts[f"{module}.lora_A.weight"], parts[f"{module}.lora_B.weight"] = a, b
        total = np.zeros((rows, columns), "f4")
        for k in range(rank):
            # One product and one sum after another, each rounded to 32 bits.
            total = total + b[:, k : k + 1] * a[k : k + 1, :]
        added = (np.float32(alpha / rank) * total).astype("f8")
        expected[f"{module}.weight"] = bf16(widened(weights[f"{module}.weight"]).astype("f8") + added).tobytes()
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["q_proj", "down_proj"]}
    lora = adapter(folder / "lora", config, parts)
    made = stitchpack.create(path, lora, folder / "lora.stitch", exact=True)
    assert made.touched_tensors == 2
    assert tensors_of(path, folder / "lora.stitch") == expected
    run("create", path, lora, "-o", folder / "cli.stitch", "--exact")
    assert (folder / "cli.stitch").read_bytes() == (folder / "lora.stitch").read_bytes()
    handed = {}
    _native.adapted(stitchpack.Base(str(path)), str(lora), lambda *tensor: handed.update({tensor[0]: tensor[1:]}), call_of())
    assert {n: raw_array(t[2]).tobytes() for n, t in handed.items()} == {f"{m}.weight": expected[f"{m}.weight"] for m in MODULES}
    assert {n: (t[0], tuple(t[1])) for n, t in handed.items()} == {f"{m}.weight": ("BF16", s) for m, s in MODULES.items()}
    with pytest.raises(ZeroDivisionError):
        _native.adapted(stitchpack.Base(str(path)), str(lora), lambda *_: 1 / 0, call_of())
    assert stitchpack.diff(path, lora).to_dict() == json.loads(run("diff", path, lora, "--json"))


def test_a_shira_becomes_an_exact_pack_and_comes_back(folder, rng, base):
    path, weights = base
    module, (rows, columns) = next(iter(MODULES.items()))
    flat = np.sort(rng.choice(rows * columns, 2 * (rows + columns), replace=False))
    values = rng.normal(0, 0.1, len(flat)).astype("f4")
    parts = {f"{module}.shira_indices": np.stack([flat // columns, flat % columns]), f"{module}.shira_weight": values}
    config = {"peft_type": "SHIRA", "r": 2, "target_modules": ["q_proj"]}
    stitchpack.create(path, adapter(folder / "shira", config, parts), folder / "p.stitch", exact=True)
    expected = {n: w.copy() for n, w in weights.items()}
    new = widened(expected[f"{module}.weight"]).astype("f8").ravel()
    new[flat] += values.astype("f8")
    expected[f"{module}.weight"] = bf16(new)
    found = tensors_of(path, folder / "p.stitch")
    assert found == {n: w.tobytes() for n, w in expected.items()}
    # What is exported as a SHiRA adapter makes the same model again.
    stitchpack.export(path, folder / "p.stitch", folder / "again", format="shira")
    stitchpack.create(path, folder / "again", folder / "again.stitch", exact=True)
    assert tensors_of(path, folder / "again.stitch") == found


def test_adapters_that_are_no_change_of_the_weights(folder, base):
    path, _ = base
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "use_dora": True}
    module, (rows, columns) = next(iter(MODULES.items()))
    parts = {f"{module}.lora_A.weight": np.ones((1, columns), "f4"), f"{module}.lora_B.weight": np.ones((rows, 1), "f4")}
    with pytest.raises(stitchpack.Refused, match="dora"):
        stitchpack.create(path, adapter(folder / "dora", config, parts), folder / "p.stitch")
    other = {n.replace("q_proj", "x_proj"): t for n, t in parts.items()}
    plain = adapter(folder / "other", {**config, "use_dora": False}, other)
    with pytest.raises(stitchpack.BaseMismatch):
        stitchpack.create(path, plain, folder / "p.stitch")
    (folder / "other" / "adapter_config.json").write_text("{")
    with pytest.raises(stitchpack.Malformed) as e:
        stitchpack.create(path, plain, folder / "p.stitch")
    assert e.value.rule == "ADP-1"
