"""Recipes: the same merged model anywhere, and nothing else."""

import json
import pickle
import shutil

import pytest
import stitchpack
from common import bytes_of, load, numbers, run, save, tuned


@pytest.fixture
def kit(folder, rng):
    """A base, two packs, and the recipe of their merge beside the packs."""
    values, base = numbers(rng)
    b = save(folder / "b.safetensors", base)
    (folder / "kit").mkdir()
    for name in ("one", "two"):
        f = save(folder / f"{name}.safetensors", tuned(rng, values))
        stitchpack.create(b, f, folder / "kit" / f"{name}.stitch", density="20%")
    packs = [folder / "kit" / "one.stitch", (folder / "kit" / "two.stitch", 0.6)]
    recipe = folder / "kit" / "stitch.json"
    locked = stitchpack.lock(b, packs, recipe, overlap="sum", lambda_=0.75, gain=1.5)
    assert locked.path == str(recipe)
    return b, packs, recipe, locked


def test_a_recipe_is_what_the_command_writes(kit, folder):
    b, packs, recipe, locked = kit
    one, two = packs
    options = ["--overlap", "sum", "--lambda", "0.75", "--gain", "1.5", "-o", folder / "cli.json"]
    run("lock", b, one, f"{two[0]}@{two[1]}", *options)
    assert (folder / "cli.json").read_bytes() == recipe.read_bytes()
    read = stitchpack.Recipe(recipe)
    assert read == locked.recipe and read.to_json() == recipe.read_text()
    assert read.to_dict() == json.loads(recipe.read_text())
    assert (read.overlap, read.lambda_, read.result) == ("sum", 0.75, locked.result)
    assert [(p.weight, p.gain) for p in read.packs] == [(1.0, 1.5), (0.6, 1.5)]
    again = stitchpack.Recipe.from_json(read.to_json())
    assert again == read and again.path is None
    assert pickle.loads(pickle.dumps(read)) == read


def test_a_recipe_makes_its_model(kit, folder, monkeypatch):
    b, packs, recipe, locked = kit
    run("apply", b, "--recipe", recipe, "-o", folder / "cli.safetensors")
    expected = load(folder / "cli.safetensors")
    for given in (recipe, str(recipe), stitchpack.Recipe(recipe)):
        with stitchpack.open(b, recipe=given) as model:
            assert bytes_of(model) == expected
            assert bytes_of(pickle.loads(pickle.dumps(model))) == expected
    made = stitchpack.apply(b, out=folder / "py.safetensors", recipe=recipe)
    assert made.checked and made.recipe == locked.recipe
    assert (folder / "py.safetensors").read_bytes() == (folder / "cli.safetensors").read_bytes()
    assert stitchpack.lock(b, recipe=recipe).checked
    # Packs elsewhere, under other names, in any order, on disk or in memory; and those of this folder, where the recipe has none.
    read = locked.recipe.to_json()
    shutil.move(packs[0], folder / "x.bin")
    two = stitchpack.Pack.from_bytes(packs[1][0].read_bytes())
    alone = stitchpack.Recipe.from_json(read)
    for given in ([two, folder / "x.bin"], [(folder / "x.bin", 1.0), (two, 0.6)]):
        with stitchpack.open(b, given, recipe=alone) as model:
            assert bytes_of(model) == expected
    with pytest.raises(stitchpack.Refused, match="not at hand"):
        stitchpack.open(b, recipe=recipe)
    shutil.move(folder / "x.bin", folder / "kit" / "one.stitch")
    monkeypatch.chdir(folder / "kit")
    with stitchpack.open(b, recipe=alone) as model:
        assert bytes_of(model) == expected


def test_a_recipe_makes_nothing_else(kit, folder):
    b, packs, recipe, locked = kit
    with pytest.raises(stitchpack.BaseMismatch):
        stitchpack.open(folder / "one.safetensors", recipe=recipe)
    fields = locked.recipe.to_dict()
    zeros = "0" * 64
    for changes, error in [
        ({"base": zeros}, stitchpack.BaseMismatch),
        ({"result": zeros}, stitchpack.DigestMismatch),
        ({"lambda": 2.0}, stitchpack.DigestMismatch),
    ]:
        (folder / "kit" / "r.json").write_text(json.dumps({**fields, **changes}))
        with pytest.raises(error):
            stitchpack.apply(b, out=folder / "no.safetensors", recipe=folder / "kit" / "r.json")
    for weight, said in [(0.7, "the recipe has 0.6"), (1.0, "the recipe has 0.6")]:
        with pytest.raises(stitchpack.InvalidInput, match=said):
            stitchpack.open(b, [(packs[1][0], weight)], recipe=recipe)
    with pytest.raises(stitchpack.InvalidInput, match="named twice"):
        stitchpack.open(b, [packs[0], packs[0]], recipe=recipe)
    stitchpack.create(b, folder / "one.safetensors", folder / "other.stitch", density="5%")
    with pytest.raises(stitchpack.Refused, match="not in the recipe"):
        stitchpack.open(b, folder / "other.stitch", recipe=recipe)
    for option in ({"overlap": "sum"}, {"lambda_": 1.0}, {"gain": "auto"}, {"weights": [1.0, 0.6]}):
        with pytest.raises(stitchpack.InvalidInput, match=next(iter(option))):
            stitchpack.open(b, packs, recipe=recipe, **option)
    with pytest.raises(stitchpack.InvalidInput, match="leads to"):
        stitchpack.apply(b, out=folder / "no.safetensors", recipe=recipe, expect=zeros)
    with pytest.raises(stitchpack.InvalidInput, match="is an input"):
        stitchpack.apply(b, out=folder / "kit", recipe=recipe, force=True)
    with pytest.raises(stitchpack.InvalidInput, match="where"):
        stitchpack.apply(b, recipe=recipe)
    assert not (folder / "no.safetensors").exists()
    with pytest.raises(stitchpack.Refused, match="exists"):
        stitchpack.lock(b, packs, recipe)
    assert stitchpack.Recipe(recipe) == locked.recipe


def test_what_is_no_recipe(kit, folder):
    _, _, recipe, locked = kit
    fields = locked.recipe.to_dict()
    for change, error in [
        ({"overlap": "median"}, stitchpack.Unsupported),
        ({"stitch_recipe": 2}, stitchpack.Malformed),
        ({"stitch_recipe": 3}, stitchpack.Unsupported),
        ({"more": 1}, stitchpack.Malformed),
    ]:
        with pytest.raises(error):
            stitchpack.Recipe.from_json(json.dumps({**fields, **change}))
    (folder / "r.json").write_text("[]")
    with pytest.raises(stitchpack.Malformed) as e:
        stitchpack.Recipe(folder / "r.json")
    assert e.value.rule == "REC-1" and e.value.path == str(folder / "r.json")
    with pytest.raises(stitchpack.NotFound):
        stitchpack.Recipe(folder / "nowhere.json")
