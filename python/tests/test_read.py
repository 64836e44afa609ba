"""Reading: tensors, slices, views, the forms in which packs are named."""

import numpy as np
import pytest
import stitchpack
from common import BITS, any_bits, changed, needs, numbers, save, tuned


@pytest.fixture
def exact(folder, rng):
    """A base with any bits, a pack that changes every other tensor, and the fine-tuned tensors."""
    base = any_bits(rng)
    other = changed(rng, base, 0.5)
    fine_tuned = {n: (other if i % 2 else base)[n] for i, n in enumerate(base)}
    b = save(folder / "b.safetensors", base, {"format": "pt", "licence": "none"})
    stitchpack.create(b, save(folder / "f.safetensors", fine_tuned), folder / "p.stitch", exact=True)
    return b, folder / "p.stitch", fine_tuned


@pytest.fixture
def lossy(folder, rng):
    values, base = numbers(rng)
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", tuned(rng, values))
    stitchpack.create(b, f, folder / "p.stitch", density=0.3)
    return b, folder / "p.stitch"


NUMPY = {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64", "C64"}


def test_what_safe_open_has(exact):
    b, p, fine_tuned = exact
    with stitchpack.open(b, [p]) as model:
        assert model.keys() == sorted(fine_tuned) == list(model) and len(model) == len(BITS)
        assert model.metadata() == {"format": "pt", "licence": "none"}
        for name, (dtype, shape, data) in fine_tuned.items():
            assert name in model and model.get_dtype(name) == dtype and model.get_shape(name) == shape
            part = model.get_slice(name)
            assert part.get_dtype() == dtype and part.get_shape() == shape
            if dtype in NUMPY:
                tensor = model.get_tensor(name)
                assert tensor.shape == tuple(shape) and tensor.tobytes() == data
                assert tensor.dtype.itemsize * 8 == BITS[dtype]
        assert "nothing" not in model


def test_dtypes_are_what_they_say(folder):
    tensors = {
        d: (d, [2], (np.array([1, 0]).astype(t)).tobytes())
        for d, t in [("F32", "f4"), ("F16", "f2"), ("I64", "i8"), ("BOOL", "?"), ("C64", "c8"), ("U16", "u2")]
    }
    with stitchpack.open(save(folder / "b.safetensors", tensors)) as model:
        for name, kind in [("F32", "f4"), ("F16", "f2"), ("I64", "i8"), ("BOOL", "?"), ("C64", "c8"), ("U16", "u2")]:
            tensor = model.get_tensor(name)
            assert tensor.dtype == np.dtype(kind) and tensor.tolist() == [1, 0]


def test_untouched_tensors_are_views_of_the_mapping(exact):
    b, p, _ = exact
    with stitchpack.open(b, [p]) as model:
        mine = [n for n in model.keys() if model.get_dtype(n) in NUMPY]
        assert {model.touches(n) for n in mine} == {True, False}
        for name in mine:
            tensor = model.get_tensor(name)
            assert tensor.flags.writeable == model.touches(name), name
            assert model.get_tensor(name, copy=True).flags.writeable
            if not model.touches(name) and tensor.size:
                again = model.get_tensor(name)
                assert np.shares_memory(tensor, again) and not np.shares_memory(tensor, model.get_tensor(name, copy=True))
                with pytest.raises(ValueError):
                    tensor[...] = 0
    with stitchpack.open(b, [p], mmap=False) as model:
        assert all(model.get_tensor(n).flags.writeable for n in mine)


def test_arrays_outlive_the_model(exact):
    b, p, fine_tuned = exact
    names = [n for n, t in fine_tuned.items() if t[0] in NUMPY]
    with stitchpack.open(b, [p]) as model:
        arrays = {n: model.get_tensor(n) for n in names}
    for name in names:
        assert arrays[name].tobytes() == fine_tuned[name][2]
    with pytest.raises(stitchpack.InvalidInput, match="closed"):
        model.keys()


def test_load_file(folder, rng):
    values, base = numbers(rng)
    base = {n: t for n, t in base.items() if t[0] in NUMPY}
    fine_tuned = {n: t for n, t in tuned(rng, values).items() if n in base}
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", fine_tuned)
    stitchpack.create(b, f, folder / "p.stitch", exact=True, include=["f32.*"])
    for copy in (True, False):
        tensors = stitchpack.load_file(b, [folder / "p.stitch"], copy=copy)
        assert list(tensors) == sorted(base)
        for name, tensor in tensors.items():
            expected = (fine_tuned if name.startswith("f32") else base)[name]
            assert tensor.tobytes() == expected[2] and tensor.flags.writeable == (copy or name.startswith("f32"))


INDICES = [
    np.s_[:], np.s_[3], np.s_[-1], np.s_[2:9], np.s_[9:2], np.s_[::3], np.s_[::-1], np.s_[20:3:-4], np.s_[5:6, 1],
    np.s_[1:30:7, ::2], np.s_[..., 3], np.s_[None, 4], np.s_[-7:], np.s_[:0], np.s_[0:1], np.s_[:, -1], np.s_[100:],
    np.s_[[1, 5, 1]], np.s_[3, 4], np.s_[()], np.s_[-100:4], np.s_[39:0:-1], np.s_[0::-1],
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_slices_are_slices_of_the_whole(lossy, index):
    with stitchpack.open(*lossy) as model:
        for name in ["f32.0", "f64.1", "f16.0"]:
            expected = model.get_tensor(name)[index]
            found = model.get_slice(name)[index]
            assert np.asarray(found).shape == expected.shape and found.tobytes() == expected.tobytes()


def test_rows_that_are_not_there(lossy):
    with stitchpack.open(*lossy) as model:
        for row in (40, -41):
            with pytest.raises(IndexError):
                model.get_slice("f32.0")[row]


def test_slices_of_scalars_and_of_nothing(folder, rng):
    base = {"s": ("F32", [], b"\0\0\x80\x3f"), "e": ("F32", [0, 3], b"")}
    fine_tuned = {"s": ("F32", [], b"\0\0\0\x40"), "e": ("F32", [0, 3], b"")}
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", fine_tuned)
    stitchpack.create(b, f, folder / "p.stitch", exact=True)
    with stitchpack.open(b, folder / "p.stitch") as model:
        assert model.get_slice("s")[...] == 2 == model.get_slice("s")[()]
        assert model.get_slice("e")[:].shape == (0, 3) == model.get_tensor("e").shape


def test_byte_ranges(exact, rng):
    b, p, fine_tuned = exact
    for mmap in (True, False):
        with stitchpack.open(b, [p], mmap=mmap) as model:
            for name, (_, _, data) in fine_tuned.items():
                for _ in range(5):
                    start, end = sorted(rng.integers(0, len(data) + 1, 2).tolist())
                    assert model.get_bytes(name, start, end).tobytes() == data[start:end]
                assert model.get_bytes(name, len(data)).size == 0
                for start, end in [(-1, None), (0, len(data) + 1), (len(data), len(data) - 1)]:
                    with pytest.raises(stitchpack.InvalidInput):
                        model.get_bytes(name, start, end)


def test_data_that_is_not_aligned(folder):
    values = np.arange(6, dtype="<f8")
    whole = save(folder / "b.safetensors", {"a": ("U8", [1], b"x"), "w": ("F64", [2, 3], values.tobytes())})
    file = whole.read_bytes()
    length = int.from_bytes(file[:8], "little")
    for pad in range(8):
        whole.write_bytes((length + pad).to_bytes(8, "little") + file[8 : 8 + length] + b" " * pad + file[8 + length :])
        with stitchpack.open(whole) as model:
            assert model.get_tensor("w").ravel().tolist() == values.tolist()
            assert model.get_slice("w")[1, 1:].tolist() == [4, 5]
            assert (model.get_tensor("w") * 2).sum() == 30


def test_small_floats_want_ml_dtypes(exact, monkeypatch):
    b, p, fine_tuned = exact
    with stitchpack.open(b, [p]) as model:
        monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
        with pytest.raises(stitchpack.MissingPackage, match="ml_dtypes"):
            model.get_tensor("bf16.weight")
        with pytest.raises(stitchpack.MissingPackage, match="ml_dtypes"):
            model.get_slice("bf16.weight")[:]
        assert model.get_bytes("bf16.weight").tobytes() == fine_tuned["bf16.weight"][2]


def test_small_floats_with_ml_dtypes(exact):
    ml_dtypes = needs("ml_dtypes")
    b, p, fine_tuned = exact
    with stitchpack.open(b, [p]) as model:
        for dtype, kind in [("BF16", "bfloat16"), ("F8_E4M3", "float8_e4m3fn"), ("F8_E5M2FNUZ", "float8_e5m2fnuz")]:
            tensor = model.get_tensor(f"{dtype.lower()}.weight")
            assert tensor.dtype == getattr(ml_dtypes, kind)
            assert tensor.tobytes() == fine_tuned[f"{dtype.lower()}.weight"][2]


def test_elements_that_share_a_byte_are_refused(exact):
    with stitchpack.open(*exact[:2]) as model:
        with pytest.raises(stitchpack.InvalidInput, match="get_bytes"):
            model.get_tensor("f4.weight")


def test_packs_are_named_in_many_ways(lossy, folder):
    b, p = lossy
    pack = stitchpack.Pack(p)
    memory = stitchpack.Pack.from_bytes(p.read_bytes())
    assert stitchpack.Pack.from_bytes(bytearray(p.read_bytes())).id == pack.id
    assert pack.id == memory.id and memory.path is None and pack.path == p
    base = stitchpack.Base(b)

    def f32(packs, **options):
        return stitchpack.open(base, packs, **options).get_tensor("f32.0").tobytes()

    whole = f32([p])
    for packs in (p, str(p), pack, memory, (p, 1), [(pack, 1.0)], iter([str(p)]), [memory]):
        assert f32(packs) == whole
    half = f32([p], weights=[0.5])
    assert half != whole
    for packs in ([(p, 0.5)], (pack, 0.5), [(memory, 0.5)]):
        assert f32(packs) == half
    assert f32([]) == f32([(p, 0)]) not in (whole, half)
    for bad in ([3], [(p, 0.5, 1)], [None]):
        with pytest.raises(stitchpack.InvalidInput, match="no pack"):
            f32(bad)
    with pytest.raises(stitchpack.InvalidInput, match="2 weights for 1 packs"):
        f32([p], weights=[1, 2])
    with pytest.raises(stitchpack.InvalidInput, match="give it one"):
        f32([(p, 0.5)], weights=[1])


def test_what_a_pack_says(lossy):
    b, p = lossy
    pack = stitchpack.Pack(p)
    assert (pack.exact, pack.all_steps, len(pack.id), pack.nbytes) == (False, False, 64, p.stat().st_size)
    assert pack.gain > 1 and pack.tool.startswith("stitchpack ") and pack.notes == {}
    assert set(pack.tensors) <= set(stitchpack.open(b).keys()) and sum(pack.tensors.values()) > 0
    assert "lossy" in repr(pack) and pack.id[:16] in repr(pack)
