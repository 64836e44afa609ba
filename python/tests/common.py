"""Small checkpoints of every dtype, and the command line as the judge."""

from __future__ import annotations

import importlib
import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip

Tensors = Dict[str, Tuple[str, List[int], bytes]]
"""By name: dtype, shape, data."""


def save(path: Path, tensors: Tensors, metadata: Dict[str, str] | None = None) -> Path:
    """Writes a safetensors file."""
    header: Dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))
    return path


def load(path: Path) -> Tensors:
    """Reads a safetensors file."""
    file = path.read_bytes()
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + length])
    header.pop("__metadata__", None)
    data = file[8 + length :]
    return {name: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for name, t in header.items()}


def floats(dtype: str, values: np.ndarray) -> bytes:
    """Numbers as a float dtype: rounded towards zero where numpy has none, which is good enough for a test's input."""
    if dtype == "F64":
        return values.astype("<f8").tobytes()
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    if dtype == "BF16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    if dtype in ("F8_E5M2", "F8_E4M3"):
        half = values.astype("<f2").view("<u2")
        if dtype == "F8_E5M2":
            return (half >> 8).astype("u1").tobytes()
        # A sign, and a magnitude that is neither NaN nor near the largest.
        return ((half >> 8 & 0x80) | (half >> 6 & 0x3F)).astype("u1").tobytes()
    raise ValueError(dtype)


SHAPES = {"scalar": [], "empty": [0, 3], "row": [7], "matrix": [24, 33], "cube": [3, 5, 8]}


def any_bits(rng: np.random.Generator) -> Tensors:
    """Tensors of every dtype and of several shapes, with any bits in them."""
    tensors = {}
    for dtype, bits in BITS.items():
        shape = [4, 8] if bits % 8 else SHAPES[rng.choice(list(SHAPES))]
        count = int(np.prod(shape, dtype=np.int64)) * bits // 8
        top = 2 if dtype == "BOOL" else 256
        tensors[f"{dtype.lower()}.weight"] = (dtype, list(shape), rng.integers(0, top, count, np.uint8).tobytes())
    return tensors


def changed(rng: np.random.Generator, tensors: Tensors, share: float) -> Tensors:
    """The same with some bytes replaced."""
    out = {}
    for name, (dtype, shape, data) in tensors.items():
        new = np.frombuffer(data, np.uint8).copy()
        pick = rng.random(len(new)) < share
        new[pick] = rng.integers(0, 2 if dtype == "BOOL" else 256, int(pick.sum()), np.uint8)
        out[name] = (dtype, shape, new.tobytes())
    return out


NUMBERS = ("F64", "F32", "F16", "BF16", "F8_E5M2", "F8_E4M3")


def numbers(rng: np.random.Generator, rows: int = 40) -> Tuple[Dict[str, np.ndarray], Tensors]:
    """Float tensors with finite numbers in them, and those numbers."""
    values = {f"{dtype.lower()}.{i}": rng.normal(0, 0.5, (rows, 25)) for dtype in NUMBERS for i in range(2)}
    return values, of_numbers(values)


def of_numbers(values: Dict[str, np.ndarray]) -> Tensors:
    return {name: (name.split(".")[0].upper(), list(v.shape), floats(name.split(".")[0].upper(), v)) for name, v in values.items()}


def tuned(rng: np.random.Generator, values: Dict[str, np.ndarray], size: float = 0.1) -> Tensors:
    """The same numbers after a fine-tune that moved half of them."""
    return of_numbers({n: v + rng.normal(0, size, v.shape) * (rng.random(v.shape) < 0.5) for n, v in values.items()})


def binary() -> Path:
    """The command, as `cargo build --release` in the root leaves it."""
    target = Path(os.environ.get("STITCHPACK_TARGET", ROOT / "target"))
    path = target / "release" / "stitchpack"
    assert path.exists(), f"{path} is missing; run cargo build --release in the root first"
    return path


def run(*arguments: object) -> str:
    """Runs the command, which must succeed."""
    done = subprocess.run([str(binary()), *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def bytes_of(model) -> Tensors:
    """All tensors of an opened model."""
    return {n: (model.get_dtype(n), model.get_shape(n), model.get_bytes(n).tobytes()) for n in model.keys()}


def needs(name: str):
    """A package that a test needs: without it the test is skipped, or fails where everything was said to be there."""
    if os.environ.get("STITCHPACK_NEEDS_ALL"):
        return importlib.import_module(name)
    return pytest.importorskip(name)
