"""What is taken for packs and their weights, and what is refused."""

import json

import pytest
import stitchpack
from common import numbers, save, tuned


@pytest.fixture
def kit(folder, rng):
    """A base and two packs."""
    values, base = numbers(rng)
    b = save(folder / "b.safetensors", base)
    for name in ("one", "two"):
        f = save(folder / f"{name}.safetensors", tuned(rng, values))
        stitchpack.create(b, f, folder / f"{name}.stitch", density="20%")
    return b, folder / "one.stitch", str(folder / "two.stitch")


def weights(locked):
    return [pack.weight for pack in locked.recipe.packs]


def test_every_form_of_packs_and_weights_means_the_same(kit):
    b, one, two = kit
    opened = stitchpack.Pack(one)
    forms = [
        {one: 0.8, two: 0.25},
        {str(one): 0.8, two: 0.25},
        {opened: 0.8, two: 0.25},
        [(one, 0.8), (two, 0.25)],
        [[one, 0.8], [two, 0.25]],
        ((opened, 0.8), [two, 0.25]),
        [{one: 0.8}, {two: 0.25}],
        (pair for pair in [(one, 0.8), (two, 0.25)]),
    ]
    locked = [stitchpack.lock(b, form) for form in forms]
    locked.append(stitchpack.lock(b, [one, two], weights=(w for w in (0.8, 0.25))))
    assert all(weights(each) == [pytest.approx(0.8), 0.25] for each in locked)
    assert len({each.result for each in locked}) == 1
    assert locked[0].result != stitchpack.lock(b, [one, two]).result


def test_a_mapping_is_taken_wherever_packs_are(kit, folder):
    b, one, two = kit
    mapping, pairs = {one: 0.8, two: 0.25}, [(one, 0.8), (two, 0.25)]
    with stitchpack.open(b, mapping) as by_mapping, stitchpack.open(b, pairs) as by_pairs:
        for name in by_pairs.keys():
            assert by_mapping.get_bytes(name).tobytes() == by_pairs.get_bytes(name).tobytes()
    applied = stitchpack.apply(b, {one: 0.5}, folder / "half.safetensors")
    assert weights(applied) == [0.5] and applied.result == stitchpack.lock(b, [one, 0.5]).result
    ids = [stitchpack.fold(b, form, folder / f"{i}.stitch").content_id for i, form in enumerate([mapping, pairs])]
    assert ids[0] == ids[1]
    from stitchpack.vllm import merge_options

    for packs in ({str(one): 0.8, two: 0.25}, [[str(one), 0.8], [two, 0.25]]):
        options = merge_options(json.loads(json.dumps({"packs": packs})))
        with stitchpack.open(b, **options) as served:
            assert [w for _, w in served._again["merge"]["packs"]] == [0.8, 0.25]


@pytest.mark.parametrize(
    "packs",
    [
        {"one.stitch": "0.8"},
        {"one.stitch": None},
        {"one.stitch": True},
        {"one.stitch": [0.8]},
        {0.8: "one.stitch"},
        [("one.stitch", True)],
        [("one.stitch", "0.8")],
        [("one.stitch", 0.8, 1)],
        [{"one.stitch": 0.8, "two.stitch": 0.2}],
        {"one.stitch", "two.stitch"},
        [0.8],
        [None],
        None,
        0.8,
        b"one.stitch",
        [b"one.stitch"],
    ],
    ids=repr,
)
def test_what_is_no_pack_is_refused_before_anything_is_read(kit, packs):
    with pytest.raises(stitchpack.InvalidInput):
        stitchpack.open(kit[0], packs)


def test_weights_and_gains_by_name_are_refused(kit):
    b, one, two = kit
    with pytest.raises(stitchpack.InvalidInput, match="mapping of packs"):
        stitchpack.open(b, [one], weights={str(one): 0.8})
    with pytest.raises(stitchpack.InvalidInput, match="has a weight beside it"):
        stitchpack.open(b, {one: 0.8}, weights=[0.5])
    with pytest.raises(stitchpack.InvalidInput, match="gains is a list"):
        stitchpack.open(b, [one], gains={str(one): 0.8})


def test_where_weights_mean_nothing_they_are_refused(kit):
    _, one, two = kit
    with pytest.raises(stitchpack.InvalidInput, match="leave the weights out"):
        stitchpack.overlap({one: 0.8, two: 0.2})
    assert len(stitchpack.overlap(iter([one, two]))) == 1
