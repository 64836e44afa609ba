"""Several packs made into one."""

import pytest
import stitchpack
from common import any_bits, bytes_of, changed, numbers, run, save, tuned


def test_a_merge_becomes_one_pack(folder, rng):
    values, base = numbers(rng)
    b, packs = save(folder / "b.safetensors", base), []
    for i in range(2):
        f = save(folder / f"f{i}.safetensors", tuned(rng, values))
        stitchpack.create(b, f, folder / f"{i}.stitch", density="20%")
        packs.append(folder / f"{i}.stitch")
    folded = stitchpack.fold(b, packs, folder / "py.stitch", weights=[1.0, 0.5], overlap="sum")
    run("fold", b, packs[0], f"{packs[1]}@0.5", "--overlap", "sum", "-o", folder / "cli.stitch")
    assert (folder / "py.stitch").read_bytes() == (folder / "cli.stitch").read_bytes()
    assert folded.exact and folded.path == str(folder / "py.stitch")
    with stitchpack.open(b, packs, weights=[1.0, 0.5], overlap="sum") as merged:
        with stitchpack.open(b, folder / "py.stitch") as model:
            assert bytes_of(model) == bytes_of(merged) != base
    with pytest.raises(stitchpack.Refused, match="exists"):
        stitchpack.fold(b, packs, folder / "py.stitch")
    with pytest.raises(stitchpack.InvalidInput, match="at least one pack"):
        stitchpack.fold(b, [], folder / "none.stitch")


def test_a_chain_becomes_one_pack(folder, rng):
    weeks = [any_bits(rng)]
    for _ in range(2):
        weeks.append(changed(rng, weeks[-1], 0.1))
    paths = [save(folder / f"{i}.safetensors", week) for i, week in enumerate(weeks)]
    packs = []
    for i in (1, 2):
        stitchpack.create(paths[0], paths[i], folder / f"{i}.stitch", exact=True, after=packs)
        packs.append(folder / f"{i}.stitch")
    stitchpack.fold(paths[0], packs, folder / "both.stitch", effort="fast")
    with stitchpack.open(paths[0], folder / "both.stitch") as model:
        assert bytes_of(model) == weeks[2]
