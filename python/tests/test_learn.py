"""Masks and gains that are learned from a gradient in Python."""

import numpy as np
import pytest
import stitchpack
from common import floats, save


@pytest.fixture
def line(folder, rng):
    """A base of zeros, a fine-tune that moves every weight, and a loss that only the first ten weights are of use for."""
    base, tuned = np.zeros((20, 25)), rng.normal(0, 1, (20, 25))
    # Too small to be kept for their size, not too small to be tried.
    tuned.ravel()[:10] = np.sign(tuned.ravel()[:10]) * 1.3
    b = save(folder / "b.safetensors", {"w": ("F32", [20, 25], floats("F32", base)), "n": ("I64", [2], bytes(16))})
    f = save(folder / "f.safetensors", {"w": ("F32", [20, 25], floats("F32", tuned)), "n": ("I64", [2], bytes(16))})

    def gradient(parameters):
        assert list(parameters) == ["w"] and parameters["w"].dtype == np.float32 and parameters["w"].shape == (20, 25)
        away = np.zeros((20, 25), np.float32)
        away.ravel()[:10] = (parameters["w"] - tuned.astype("f4")).ravel()[:10]
        return float((away**2).sum() / 2), {"w": away}

    return b, f, gradient


def test_what_the_loss_asks_for_is_kept(line, folder):
    b, f, gradient = line
    kept = []
    for name, options in [("plain", {}), ("learned", {"gradient": gradient})]:
        stitchpack.create(b, f, folder / f"{name}.stitch", density=0.1, values="f32", **options)
        first = stitchpack.load_file(b, folder / f"{name}.stitch")["w"].ravel()[:10]
        kept.append(np.count_nonzero(first))
    assert kept[1] > kept[0], "learning did not keep more of the weights that the loss is of"
    assert stitchpack.inspect(folder / "learned.stitch").origin.localizer == "learned"


def test_a_function_of_two_arguments_gets_the_batch(line, folder):
    b, f, gradient = line
    heard = []

    def with_batch(parameters, batch):
        heard.append(batch)
        return gradient(parameters)

    learn = {"path": 2, "steps": 3, "seed": 7}
    made = stitchpack.create(b, f, None, density=0.1, gradient=with_batch, learn=learn)
    # The batch in the middle chooses the mask, and is asked for more than once.
    assert list(dict.fromkeys(heard)) == [stitchpack.Batch(7, i, 6) for i in range(6)]
    assert stitchpack.create(b, f, None, density=0.1, gradient=gradient, learn=learn).id == made.id


def test_arrays_may_be_kept(line):
    b, f, gradient = line
    seen = []

    def keeping(parameters):
        seen.append(parameters["w"])
        return gradient(parameters)

    stitchpack.create(b, f, None, density=0.1, gradient=keeping, learn={"path": 2, "steps": 3})
    copies = [s.copy() for s in seen]
    assert len({s.tobytes() for s in copies}) > 3 and all((s == c).all() for s, c in zip(seen, copies))


def test_what_a_gradient_raises_is_raised(line, folder):
    b, f, gradient = line

    class Mine(Exception):
        pass

    def failing(parameters):
        raise Mine("no data")

    with pytest.raises(Mine, match="no data"):
        stitchpack.create(b, f, folder / "p.stitch", density=0.1, gradient=failing)
    assert not (folder / "p.stitch").exists()


WRONG = [
    (lambda p: (1.0, {"x": p["w"]}), "no parameter"),
    (lambda p: (1.0, {"w": p["w"][:3]}), "shape"),
    (lambda p: (1.0, {"w": p["w"].astype("f8")}), "float64"),
]


@pytest.mark.parametrize("function, why", WRONG, ids=[w[1] for w in WRONG])
def test_gradients_that_fit_nothing(line, function, why):
    b, f, _ = line
    with pytest.raises(stitchpack.InvalidInput, match=why):
        stitchpack.create(b, f, None, density=0.1, gradient=function)


def test_a_loss_that_is_no_number(line):
    b, f, _ = line
    with pytest.raises(stitchpack.Refused):
        stitchpack.create(b, f, None, density=0.1, gradient=lambda p: (float("nan"), {}))


def test_what_makes_no_sense(line):
    b, f, gradient = line
    for options in (
        {"learn": {"speed": 1}, "gradient": gradient},
        {"learn": {"steps": 3}},
        {"learn": {"rate": -1.0}, "gradient": gradient},
        {"gradient": gradient, "exact": True, "density": None},
    ):
        with pytest.raises(stitchpack.InvalidInput):
            stitchpack.create(b, f, None, **{"density": 0.1, **options})
