"""What is reported of packs and of models is what the command reports."""

import json

import pytest
import stitchpack
from common import numbers, run, save, tuned


@pytest.fixture
def made(folder, rng):
    values, base = numbers(rng)
    b, packs = save(folder / "b.safetensors", base), []
    for name in "fgh":
        f = save(folder / f"{name}.safetensors", tuned(rng, values))
        how = {"exact": True} if name == "h" else {"density": "20%"}
        stitchpack.create(b, f, folder / f"{name}.stitch", **how)
        packs.append(folder / f"{name}.stitch")
    return b, folder / "f.safetensors", packs


def test_overlaps(made, folder):
    b, _, packs = made
    for named, base in [(packs[:2], None), (packs, b)]:
        found = stitchpack.overlap(named, base)
        arguments = ["--base", base] if base else []
        expected = json.loads(run("overlap", *named, *arguments, "--json"))["overlaps"]
        assert [o.to_dict() for o in found] == expected
        assert found[0].packs == [0, 1] and 0 < found[0].shared <= min(found[0].kept)
        assert sum(t.shared for t in found[0].tensors) == found[0].shared
    assert stitchpack.overlap([stitchpack.Pack(p) for p in packs[:2]]) == found[:1]
    with pytest.raises(stitchpack.BaseMismatch):
        stitchpack.overlap(packs, folder / "f.safetensors")
    for few in ([packs[0]], packs[0], []):
        with pytest.raises(stitchpack.InvalidInput, match="two packs"):
            stitchpack.overlap(few)
    with pytest.raises(AttributeError, match="Overlap has no nothing"):
        found[0].nothing


def test_diffs(made, folder):
    b, f, _ = made
    found = stitchpack.diff(b, f)
    assert found.to_dict() == json.loads(run("diff", b, f, "--json"))
    assert 0 < found.changed < found.elements and found.energy[-1][1] <= 1.0
    some = stitchpack.diff(b, f, include=["f32.*"], exclude=["*.1"])
    assert [t.name for t in some.tensors if t.changed] == ["f32.0"]
    assert some.to_dict() == json.loads(run("diff", b, f, "--include", "f32.*", "--exclude", "*.1", "--json"))
    assert stitchpack.diff(b, b).changed == 0
    with pytest.raises(stitchpack.InvalidInput):
        stitchpack.diff(b, f, include=["nothing.*"])
    with pytest.raises(stitchpack.NotFound):
        stitchpack.diff(b, folder / "nowhere.safetensors")
