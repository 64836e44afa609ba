"""The code that the READMEs show runs, on small models with the names that it uses."""

import re

import pytest
import stitchpack
from common import ROOT, floats, needs, save

SHAPES = {
    "encoder.layer.0.output.dense.weight": (48, 64),
    "embeddings.word_embeddings.weight": (200, 32),
    "pooler.dense.bias": (32,),
}


def blocks(path, word):
    """The python blocks of a README that have a word in them."""
    text = (ROOT / path).read_text()
    return [b for b in re.findall(r"```python\n(.*?)```", text, re.S) if word in b]


@pytest.fixture
def here(folder, rng, monkeypatch):
    """A folder with the checkpoints and packs that the pages speak of."""
    monkeypatch.chdir(folder)
    base = {n: rng.normal(0, 0.05, s) for n, s in SHAPES.items()}
    for name, size in [("base", 0), ("reviews", 0.01), ("languages", 0.01), ("update", 0.0001)]:
        tensors = {n: v + rng.normal(0, 1, v.shape) * size for n, v in base.items()}
        save(folder / f"{name}.safetensors", {n: ("BF16", list(v.shape), floats("BF16", v)) for n, v in tensors.items()})
    stitchpack.create("base.safetensors", "languages.safetensors", "languages.stitch", density="2.5%")
    return folder


def run(code):
    names = {}
    exec(compile(code, "README", "exec"), names)  # noqa: S102 - the page is ours
    return names


def test_reading_and_packs(here):
    needs("ml_dtypes")
    code = blocks("python/README.md", "stitchpack.create(")
    assert len(code) == 1
    made = run("import stitchpack\n" + code[0])
    assert made["applied"].path == "both.safetensors" and made["found"].id == made["made"].id
    code = blocks("python/README.md", "stitchpack.lock(") + blocks("python/README.md", "stitchpack.overlap(")
    assert len(code) == 2
    used = run("import stitchpack\n" + "\n".join(code))
    assert used["again"].checked and used["locked"].result == made["applied"].result
    assert 0 < used["found"].changed and 0 <= used["pair"].shared and used["folded"].exact
    code = blocks("python/README.md", "stitchpack.open(")
    assert len(code) == 1
    read = run(code[0])
    assert read["rows"].shape == (4, 32) and read["weight"].shape == (48, 64)
    assert set(read["tensors"]) == set(SHAPES)


def test_the_first_page(here, capsys):
    needs("ml_dtypes")
    (code,) = blocks("README.md", "import stitchpack\n")
    read = run(code)
    assert read["rows"].shape == (4, 32) and "of the model" in capsys.readouterr().out
