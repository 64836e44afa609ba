"""Every class of error is met once, and has the fields of the library's error."""

import json
import os
import pickle

import pytest
import stitchpack
from common import ROOT, numbers, save, tuned


@pytest.fixture
def made(folder, rng):
    values, base = numbers(rng)
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", tuned(rng, values))
    stitchpack.create(b, f, folder / "p.stitch", density=0.1)
    return b, f, folder / "p.stitch"


def test_a_file_that_is_not_there(folder):
    with pytest.raises(stitchpack.NotFound) as e:
        stitchpack.open(folder / "nothing.safetensors")
    assert isinstance(e.value, FileNotFoundError) and isinstance(e.value, stitchpack.IoError)
    assert (e.value.errno, e.value.exit_code, e.value.path) == (2, 7, str(folder / "nothing.safetensors"))
    with pytest.raises(stitchpack.NotFound):
        stitchpack.Pack(folder / "nothing.stitch")


def test_a_pack_that_is_a_folder(folder):
    with pytest.raises(stitchpack.IoError) as e:
        stitchpack.Pack(folder)
    assert isinstance(e.value, OSError) and not isinstance(e.value, FileNotFoundError)
    assert e.value.path == str(folder) and "folder" in e.value.strerror


def test_a_malformed_checkpoint(folder):
    (folder / "b.safetensors").write_bytes(b"\xff" * 40)
    with pytest.raises(stitchpack.Malformed) as e:
        stitchpack.open(folder / "b.safetensors")
    assert (e.value.rule, e.value.exit_code, e.value.path) == ("CKP-1", 3, str(folder / "b.safetensors"))
    assert e.value.place and e.value.detail and "CKP-1" in str(e.value)


def test_a_pack_that_is_none(folder):
    (folder / "p.stitch").write_bytes(b"not a pack, but long enough to look for a header in" * 9)
    with pytest.raises(stitchpack.Malformed) as e:
        stitchpack.Pack(folder / "p.stitch")
    assert e.value.rule.startswith("HDR")


def test_damage(made):
    b, _, p = made
    data = bytearray(p.read_bytes())
    data[len(data) // 3] ^= 1
    p.write_bytes(data)
    with pytest.raises(stitchpack.DigestMismatch) as e:
        stitchpack.verify(p)
    assert isinstance(e.value, stitchpack.IntegrityError) and e.value.exit_code == 4
    assert "section" in e.value.place and len(e.value.expected) == len(e.value.found) == 64
    assert e.value.expected != e.value.found and e.value.path == str(p)
    with pytest.raises(stitchpack.DigestMismatch):
        stitchpack.lock(b, [p])


def test_another_base(made):
    _, f, p = made
    with pytest.raises(stitchpack.BaseMismatch) as e:
        stitchpack.open(f, [p])
    why = e.value
    assert why.exit_code == 5 and why.diagnosis and why.advice and why.touched >= why.differing > 0
    assert len(why.tensors) == min(5, why.differing) and all(isinstance(t, tuple) and len(t) == 2 for t in why.tensors)
    assert why.expected == stitchpack.Pack(p).base != why.found


def test_refused(made):
    b, f, p = made
    with pytest.raises(stitchpack.Refused) as e:
        stitchpack.create(b, f, p, density=0.1)
    assert e.value.exit_code == 6 and str(p) in str(e.value)
    stitchpack.create(b, f, p, density=0.1, force=True)
    stitchpack.create(b, f, p.with_name("q.stitch"), density=0.2)
    with pytest.raises(stitchpack.Refused, match="overlap"):
        stitchpack.lock(b, [p, p.with_name("q.stitch")], overlap="refuse")


def test_limits(folder):
    (folder / "b.safetensors").write_bytes((1 << 20).to_bytes(8, "little") + b"{")
    with open(folder / "b.safetensors", "r+b") as file:
        file.seek(0)
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(200_000_000)
    with pytest.raises(stitchpack.LimitExceeded) as e:
        stitchpack.open(folder / "b.safetensors")
    assert (e.value.asked, e.value.allowed, e.value.exit_code) == (100_000_001, 100_000_000, 6)
    assert "header" in e.value.limit and isinstance(e.value, stitchpack.Refused)


VECTORS = sorted((ROOT / "spec" / "vectors" / "corrupt").glob("*.json"))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_vectors_of_the_specification(path):
    expected = json.loads(path.read_text())
    base = path.with_suffix(".safetensors")
    with pytest.raises(stitchpack.StitchpackError) as e:
        stitchpack.verify(path.with_suffix(".stitch"), base if base.exists() else None)
    assert e.value.exit_code == expected["exit_code"]
    if isinstance(e.value, stitchpack.Malformed):
        assert e.value.rule == expected["rule"]


def test_a_newer_pack():
    newer = next(path for path in VECTORS if json.loads(path.read_text())["exit_code"] == 8)
    with pytest.raises(stitchpack.Unsupported) as e:
        stitchpack.Pack(newer.with_suffix(".stitch"))
    assert e.value.what and e.value.found != e.value.known


def test_input_that_makes_no_sense(made):
    b, _, p = made
    for call in (
        lambda: stitchpack.open(b, [p], overlap="loudest"),
        lambda: stitchpack.open(b, [p], gain="huge"),
        lambda: stitchpack.open(b, [p], lambda_=float("inf")),
        lambda: stitchpack.open(b, [p], base_check="maybe"),
        lambda: stitchpack.open(b, [p], framework="tf"),
        lambda: stitchpack.open(b, [p, p]),
        lambda: stitchpack.open(b, [p]).get_tensor("nothing"),
        lambda: stitchpack.open(b, [p]).get_slice("nothing"),
        lambda: stitchpack.apply(b, [], "x.safetensors"),
        lambda: stitchpack.verify(p, expect_id="beef"),
    ):
        with pytest.raises(stitchpack.InvalidInput) as e:
            call()
        assert isinstance(e.value, ValueError) and e.value.exit_code == 2


def test_the_progress_function_may_stop_the_work(folder, rng):
    values, base = numbers(rng, rows=20_000)
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", tuned(rng, values))
    with pytest.raises(stitchpack.Interrupted) as e:
        stitchpack.create(b, f, folder / "p.stitch", exact=True, effort="small", progress=lambda *_: False)
    assert e.value.exit_code == 130 and not (folder / "p.stitch").exists()


def test_a_bug(made):
    # Nothing that a caller can do should give one, so it is made by hand.
    error = stitchpack.InternalError._of("a bug of stitchpack", path=None)
    with pytest.raises(stitchpack.StitchpackError) as e:
        raise error
    assert e.value.exit_code == 70


def test_every_class_is_exported_and_has_an_exit_code():
    codes = {name: getattr(stitchpack, name).exit_code for name in stitchpack.errors.__all__}
    assert codes == {
        "StitchpackError": 70, "IoError": 7, "NotFound": 7, "Malformed": 3, "Unsupported": 8, "IntegrityError": 4,
        "DigestMismatch": 4, "BaseMismatch": 5, "LimitExceeded": 6, "Refused": 6, "InvalidInput": 2,
        "MissingPackage": 2, "Interrupted": 130, "InternalError": 70,
    }  # fmt: skip


def test_errors_travel_between_processes(made, folder):
    _, f, p = made
    with pytest.raises(stitchpack.BaseMismatch) as e:
        stitchpack.open(f, [p])
    again = pickle.loads(pickle.dumps(e.value))
    assert type(again) is stitchpack.BaseMismatch and str(again) == str(e.value)
    assert (again.tensors, again.path, again.expected) == (e.value.tensors, e.value.path, e.value.expected)
    with pytest.raises(stitchpack.NotFound) as e:
        stitchpack.open(os.fspath(folder / "nothing"))
    again = pickle.loads(pickle.dumps(e.value))
    assert type(again) is stitchpack.NotFound and (again.errno, str(again)) == (2, str(e.value))
