"""What Python makes of base and packs is what the command makes of them, byte for byte."""

import itertools

import pytest
import stitchpack
from common import any_bits, bytes_of, changed, load, numbers, run, save, tuned

RULES = ["average", "weighted-average", "sum", "elect", "max", "priority"]


@pytest.mark.parametrize("seed", range(6))
def test_exact_packs_of_every_dtype(folder, rng, seed):
    base = any_bits(rng)
    fine_tuned = changed(rng, base, rng.choice([0.01, 0.3, 1.0]))
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", fine_tuned)
    made = stitchpack.create(b, f, folder / "p.stitch", exact=True)
    assert made.exact
    run("apply", b, folder / "p.stitch", "-o", folder / "cli.safetensors")
    applied = stitchpack.apply(b, folder / "p.stitch", folder / "py.safetensors", check=True)
    assert applied.checked
    assert (folder / "py.safetensors").read_bytes() == (folder / "cli.safetensors").read_bytes()
    for mmap in (True, False):
        with stitchpack.open(b, [folder / "p.stitch"], mmap=mmap) as model:
            assert bytes_of(model) == fine_tuned


@pytest.mark.parametrize("rule, lambda_", [*itertools.product(RULES, [1.0]), ("sum", 0.37), ("average", -0.5)])
def test_merges_under_every_rule(folder, rng, rule, lambda_):
    values, base = numbers(rng)
    b = save(folder / "b.safetensors", base)
    packs, weights = [], [1.0, 0.6, -0.3]
    for i, kind in enumerate(["sign", "int4", "f16"]):
        f = save(folder / f"f{i}.safetensors", tuned(rng, values))
        stitchpack.create(b, f, folder / f"{i}.stitch", density="20%", values=kind, groups="row" if i == 1 else None)
        packs.append(folder / f"{i}.stitch")
    named = [f"{p}@{w}" for p, w in zip(packs, weights)]
    run("apply", b, *named, "-o", folder / "cli.safetensors", "--overlap", rule, f"--lambda={lambda_}")
    expected = load(folder / "cli.safetensors")
    assert expected != base
    options = {"overlap": rule, "lambda_": lambda_}
    applied = stitchpack.apply(b, list(zip(packs, weights)), folder / "py.safetensors", **options)
    assert load(folder / "py.safetensors") == expected
    assert applied.recipe.overlap == rule
    with stitchpack.open(b, packs, weights=weights, **options) as model:
        assert bytes_of(model) == expected
    locked = stitchpack.lock(b, packs, weights=weights, **options)
    assert locked.result == applied.result and locked.path is None


@pytest.mark.parametrize("gain", ["auto", "stored", "none", 1.75])
def test_gains(folder, rng, gain):
    values, base = numbers(rng)
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", tuned(rng, values))
    stitchpack.create(b, f, folder / "p.stitch", density=0.1)
    run("apply", b, folder / "p.stitch", "-o", folder / "cli.safetensors", "--gain", gain)
    with stitchpack.open(b, folder / "p.stitch", gain=gain) as model:
        assert bytes_of(model) == load(folder / "cli.safetensors")


def test_chains(folder, rng):
    base = any_bits(rng)
    weeks = [base]
    for _ in range(3):
        weeks.append(changed(rng, weeks[-1], 0.1))
    paths = [save(folder / f"{i}.safetensors", week) for i, week in enumerate(weeks)]
    packs = []
    for i in (1, 2, 3):
        stitchpack.create(paths[0], paths[i], folder / f"{i}.stitch", exact=True, after=packs)
        packs.append(folder / f"{i}.stitch")
    # The order in which they are named does not matter: each lies on what it was made for.
    with stitchpack.open(paths[0], [packs[2], packs[0], packs[1]]) as model:
        assert bytes_of(model) == weeks[3]
    stitchpack.apply(paths[0], packs, folder / "py.safetensors")
    assert load(folder / "py.safetensors") == weeks[3]
    # How they follow each other shows only in all of the base, which is read then.
    with stitchpack.open(paths[0], packs, base_check="touched") as model:
        assert bytes_of(model) == weeks[3]
    with pytest.raises(stitchpack.BaseMismatch):
        stitchpack.open(paths[0], [packs[0], packs[2]])


def test_a_folder_is_complete(folder, rng):
    values, base = numbers(rng)
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_text("{}")
    save(folder / "base" / "model.safetensors", base)
    f = save(folder / "f.safetensors", tuned(rng, values))
    stitchpack.create(folder / "base", f, folder / "p.stitch", size="5%")
    stitchpack.apply(folder / "base", [folder / "p.stitch"], folder / "merged")
    run("apply", folder / "base", folder / "p.stitch", "-o", folder / "cli")
    names = sorted(p.name for p in (folder / "merged").iterdir())
    assert names == ["config.json", "model.safetensors", "stitch.json"]
    for name in names:
        assert (folder / "merged" / name).read_bytes() == (folder / "cli" / name).read_bytes()


def test_what_a_recipe_expects(folder, rng):
    values, base = numbers(rng)
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", tuned(rng, values))
    stitchpack.create(b, f, folder / "p.stitch", density=0.1)
    locked = stitchpack.lock(b, folder / "p.stitch")
    assert stitchpack.apply(b, folder / "p.stitch", folder / "m.safetensors", expect=locked.result).checked
    with pytest.raises(stitchpack.DigestMismatch) as e:
        stitchpack.apply(b, folder / "p.stitch", folder / "n.safetensors", expect="00" * 32)
    assert (e.value.place, e.value.expected, e.value.found) == ("result", "00" * 32, locked.result)
    assert not (folder / "n.safetensors").exists()
