"""Every test has a folder of its own and a generator of numbers that is seeded by its name."""

import os
import zlib

import numpy as np
import pytest


@pytest.fixture
def rng(request):
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STITCHPACK_CACHE", os.fspath(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path
