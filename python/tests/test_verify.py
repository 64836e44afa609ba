"""Verifying and inspecting."""

import json

import pytest
import stitchpack
from common import numbers, run, save, tuned


@pytest.fixture
def made(folder, rng):
    values, base = numbers(rng)
    b, f = save(folder / "b.safetensors", base), save(folder / "f.safetensors", tuned(rng, values))
    stitchpack.create(b, f, folder / "p.stitch", density=0.1, notes={"task": "<b>bold</b>", "a b": "\u202eevil"})
    stitchpack.create(b, f, folder / "x.stitch", exact=True)
    return b, f, folder / "p.stitch", folder / "x.stitch"


def test_what_is_proved(made):
    b, f, p, x = made
    alone = stitchpack.verify(p)
    assert alone.id == stitchpack.Pack(p).id and len(alone.proved) == 1 and len(alone.not_proved) == 3
    full = stitchpack.verify(x, b, expect_id=stitchpack.Pack(x).id)
    assert [line.split(":")[0] for line in full.proved] == ["integrity", "identity", "base"]
    assert [line.split(":")[0] for line in full.not_proved] == ["harmlessness"]
    for check in ("touched", "cached"):
        assert "base" in stitchpack.verify(p, b, base_check=check).proved[-1]


def test_what_is_refuted(made):
    b, f, p, x = made
    with pytest.raises(stitchpack.BaseMismatch):
        stitchpack.verify(p, f)
    with pytest.raises(stitchpack.DigestMismatch) as e:
        stitchpack.verify(p, expect_id=stitchpack.Pack(x).id)
    assert (e.value.place, e.value.found) == ("pack id", stitchpack.Pack(p).id)


def test_a_pack_that_is_replaced_is_noticed(made):
    b, _, p, x = made
    pack = stitchpack.Pack(p)
    p.write_bytes(x.read_bytes())
    with pytest.raises(stitchpack.DigestMismatch, match="replaced"):
        stitchpack.open(b, [pack])


def test_inspections_are_those_of_the_command(made):
    b, _, p, x = made
    for pack, base in [(p, None), (x, None), (x, b)]:
        found = stitchpack.inspect(pack, base)
        arguments = ["--base", base] if base else []
        assert found.to_dict() == json.loads(run("inspect", pack, "--json", *arguments))
        assert found.id == stitchpack.Pack(pack).id and found.bytes.file == pack.stat().st_size
        assert sum(t.kept for t in found.tensors) == sum(stitchpack.Pack(pack).tensors.values())
        assert found.exact == (pack == x)
    assert stitchpack.inspect(p).notes == {"task": "<b>bold</b>", "a b": "\u202eevil"}
    with pytest.raises(AttributeError):
        found.nothing
    assert "totals" in dir(found) and "totals" in repr(found)


def test_notebooks_see_no_markup_of_others(made):
    page = stitchpack.inspect(made[2])._repr_html_()
    assert "<b>" not in page and "&lt;b&gt;bold" in page and "\u202e" not in page and "\\u202e" in page
    for tag in ("table", "tr", "td", "th"):
        assert page.count(f"<{tag}>") + page.count(f"<{tag} ") == page.count(f"</{tag}>") > 0
