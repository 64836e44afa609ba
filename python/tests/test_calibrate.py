"""Gains of several packs, calibrated together from a gradient in Python."""

import json
import pickle

import numpy as np
import pytest
import stitchpack
from common import floats, save


@pytest.fixture
def pair(folder, rng):
    """Two packs of one base that keep everything, each with a gain of 2, and a gradient that wants 1.5 of the one and a half of the other."""
    deltas = rng.normal(0, 1, (2, 20, 25)).astype("f4")
    b = save(folder / "b.safetensors", {"w": ("F32", [20, 25], floats("F32", np.zeros((20, 25)))), "n": ("I64", [2], bytes(16))})
    packs = []
    for i, delta in enumerate(deltas):
        f = save(folder / f"f{i}.safetensors", {"w": ("F32", [20, 25], floats("F32", delta)), "n": ("I64", [2], bytes(16))})
        stitchpack.create(b, f, folder / f"{i}.stitch", density=1, values="f32", rescale=2)
        packs.append(folder / f"{i}.stitch")
    goal = (1.5 * deltas[0] + 0.5 * deltas[1]) / 2

    def gradient(parameters):
        assert list(parameters) == ["w"] and parameters["w"].dtype == np.float32
        away = parameters["w"] - goal
        return float((away**2).sum() / 2), {"w": away}

    return b, packs, gradient, goal


LEARN = {"steps": 150, "lambda_": 0.0}


def test_what_the_loss_asks_for_is_found(pair):
    b, packs, gradient, goal = pair
    gains = stitchpack.calibrate(b, packs, gradient, learn=LEARN)
    found = [g.tensors["w"] for g in gains]
    assert found == pytest.approx([1.5, 0.5], rel=0.05) and [g.gain for g in gains] == [2, 2]
    before = stitchpack.load_file(b, packs)["w"]
    after = stitchpack.load_file(b, packs, gains=gains)["w"]
    assert np.abs(after - goal).max() < 0.1 * np.abs(before - goal).max()


def test_gains_travel(pair, folder):
    b, packs, gradient, _ = pair
    gains = stitchpack.calibrate(b, packs, gradient, learn={"steps": 3})
    applied = stitchpack.apply(b, packs, folder / "out", gains=gains)
    recipe = json.loads((folder / "out" / "stitch.json").read_text())
    assert recipe == applied.recipe.to_dict() and recipe["stitch_recipe"] == 2
    assert [p["tensor_gains"]["w"] for p in recipe["packs"]] == pytest.approx([g.tensors["w"] for g in gains])
    with stitchpack.open(b, packs, gains=gains) as model:
        again = pickle.loads(pickle.dumps(model))
        assert (again.get_tensor("w") == model.get_tensor("w")).all()
        assert (model.get_tensor("w") == stitchpack.load_file(folder / "out" / "model.safetensors")["w"]).all()


def test_a_number_is_a_gain_of_the_whole_pack(pair):
    b, packs, _, _ = pair
    whole = stitchpack.load_file(b, packs, gains=[0.5, 0.5])["w"]
    assert (whole == stitchpack.load_file(b, packs, gain=0.5)["w"]).all()
    assert (whole == stitchpack.load_file(b, packs, gains=[stitchpack.PackGain(9, {"w": 0.5}), 0.5])["w"]).all()


def test_a_seed_gives_the_same_gains_and_the_batch_is_told(pair):
    b, packs, gradient, _ = pair
    heard = []

    def with_batch(parameters, batch):
        heard.append(batch)
        return gradient(parameters)

    learn = {"steps": 3, "seed": 7}
    gains = stitchpack.calibrate(b, packs, with_batch, learn=learn)
    assert heard == [stitchpack.Batch(7, i, 3) for i in range(3)]
    assert gains == stitchpack.calibrate(b, packs, gradient, learn=learn, threads=1)


def test_what_a_gradient_raises_is_raised(pair):
    b, packs, _, _ = pair

    class Mine(Exception):
        pass

    def failing(parameters):
        raise Mine("no data")

    with pytest.raises(Mine, match="no data"):
        stitchpack.calibrate(b, packs, failing)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"learn": {"path": 3}}, "learn has path"),
        ({"learn": {"steps": 0}}, "0 evaluations"),
        ({"gains": [1.0]}, "1 gains for 2 packs"),
        ({"gains": [1.0, -1.0]}, "a gain is -1"),
        ({"gains": [1.0, (1.0, {"x": 1.0})]}, 'tensor "x"'),
        ({"gains": [1.0, 1.0], "gain": 2}, "use one"),
    ],
)
def test_what_is_wrong_is_said(pair, options, says):
    b, packs, gradient, _ = pair
    with pytest.raises(stitchpack.InvalidInput, match=says):
        stitchpack.calibrate(b, packs, gradient, **options)


def test_without_packs_there_is_nothing_to_calibrate(pair):
    b, _, gradient, _ = pair
    with pytest.raises(stitchpack.InvalidInput, match="at least one pack"):
        stitchpack.calibrate(b, [], gradient)
