"""Packs that Python makes are the packs that the command makes, byte for byte."""

import pytest
import stitchpack
from common import numbers, run, save, tuned

WAYS = [
    ({"exact": True}, ["--exact"]),
    ({}, []),
    ({"size": "3%"}, ["--size", "3%"]),
    ({"size": 4000}, ["--size", "4000"]),
    ({"size": "90%", "require_exact": True}, ["--size", "90%", "--require-exact"]),
    ({"density": 0.05}, ["--density", "5%"]),
    ({"density": 5e-5, "values": "f32"}, ["--density", "0.00005", "--values", "f32"]),
    ({"density": "10%", "values": "int8", "groups": "row"}, ["--density", "0.1", "--values", "int8", "--groups", "row"]),
    ({"density": 0.1, "scope": "tensor", "rescale": 2.5}, ["--density", "0.1", "--scope", "tensor", "--rescale", "2.5"]),
    ({"density": 0.1, "rescale": "l1", "effort": "small"}, ["--density", "0.1", "--rescale", "l1", "--effort", "small"]),
    ({"density": 0.1, "include": ["f32*", "bf*"]}, ["--density", "0.1", "--include", "f32*", "--include", "bf*"]),
    ({"density": 0.1, "exclude": ["f8*"], "notes": {"task": "x"}}, ["--density", "0.1", "--exclude", "f8*", "--meta", "task=x"]),
]  # fmt: skip


@pytest.mark.parametrize("options, arguments", WAYS, ids=[str(w[0]) for w in WAYS])
def test_the_same_bytes(folder, rng, options, arguments):
    values, base = numbers(rng, rows=200)
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", tuned(rng, values))
    made = stitchpack.create(b, f, folder / "py.stitch", **options)
    run("create", b, f, "-o", folder / "cli.stitch", *arguments)
    assert (folder / "py.stitch").read_bytes() == (folder / "cli.stitch").read_bytes()
    dry = stitchpack.create(b, f, None, **options)
    assert dry.path is None and (dry.id, dry.pack_bytes) == (made.id, made.pack_bytes)
    assert made.pack_bytes == (folder / "py.stitch").stat().st_size
    assert made.size_share == made.pack_bytes / f.stat().st_size


def test_masks_and_scores(folder, rng):
    values, base = numbers(rng)
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", tuned(rng, values))
    scores = {n: ("F32", list(v.shape), rng.random(v.shape).astype("<f4").tobytes()) for n, v in values.items()}
    mask = {n: ("BOOL", list(v.shape), (rng.random(v.shape) < 0.1).tobytes()) for n, v in values.items()}
    s, m = save(folder / "s.safetensors", scores), save(folder / "m.safetensors", mask)
    for name, options, arguments in [
        ("s", {"scores": s, "density": 0.1}, ["--scores", s, "--density", "0.1"]),
        ("m", {"mask": m}, ["--mask", m]),
    ]:
        made = stitchpack.create(b, f, folder / f"{name}.stitch", **options)
        run("create", b, f, "-o", folder / f"{name}-cli.stitch", *arguments)
        assert (folder / f"{name}.stitch").read_bytes() == (folder / f"{name}-cli.stitch").read_bytes()
        assert made.kept > 0
    assert made.unchanged_in_mask > 0


CONTRADICTIONS = [
    {"exact": True, "size": "1%"},
    {"exact": True, "density": 0.1},
    {"exact": True, "values": "sign"},
    {"size": "1%", "density": 0.1},
    {"density": 0.1, "require_exact": True},
    {"density": 1.5},
    {"density": "many"},
    {"density": float("nan")},
    {"size": "1 league"},
    {"density": 0.1, "values": "int3"},
    {"density": 0.1, "groups": "column"},
    {"effort": "heroic"},
    {"new_tensors": "eat"},
    {"base_check": "touched"},
    {"include": ["nothing.*"]},
]


@pytest.mark.parametrize("options", CONTRADICTIONS, ids=str)
def test_what_makes_no_sense(folder, rng, options):
    values, base = numbers(rng, rows=4)
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", tuned(rng, values))
    with pytest.raises(stitchpack.InvalidInput) as e:
        stitchpack.create(b, f, folder / "p.stitch", **options)
    assert isinstance(e.value, ValueError) and e.value.exit_code == 2
    assert not (folder / "p.stitch").exists()


def test_a_mask_chooses_alone(folder, rng):
    values, base = numbers(rng, rows=4)
    b = save(folder / "b.safetensors", base)
    for options in ({"mask": b, "scores": b}, {"mask": b, "scope": "tensor"}, {"mask": b, "density": 0.1}):
        with pytest.raises(stitchpack.InvalidInput):
            stitchpack.create(b, b, folder / "p.stitch", **options)
