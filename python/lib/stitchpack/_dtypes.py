"""Bytes as arrays: which dtype of numpy, ml_dtypes or torch is which of safetensors."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from ._native import Buffer
from .errors import InvalidInput, MissingPackage

_NUMPY = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "C64": "<c8",
}

_ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}

_TORCH = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "C64": "complex64",
    **_ML_DTYPES,
}

_SIZES = {name: np.dtype(code).itemsize for name, code in _NUMPY.items()}
_SIZES.update({name: 1 for name in _ML_DTYPES}, BF16=2)


def numpy_dtype(name: str) -> "np.dtype[Any]":
    """The numpy dtype of a safetensors dtype."""
    if name in _NUMPY:
        return np.dtype(_NUMPY[name])
    if name not in _ML_DTYPES:
        raise InvalidInput(f"numpy has no dtype for {name}, of which several elements share a byte; use get_bytes")
    try:
        import ml_dtypes
    except ImportError:
        raise MissingPackage(
            f'numpy has no {name} of its own: install ml_dtypes (pip install "stitchpack[bf16]"), or, with torch, '
            'ask for framework="pt"'
        ) from None
    kind: Any = getattr(ml_dtypes, _ML_DTYPES[name], None)
    if kind is None:
        raise MissingPackage(f"this ml_dtypes has no {_ML_DTYPES[name]}; install a newer one")
    return np.dtype(kind)


def torch_dtype(name: str) -> Any:
    """The torch dtype of a safetensors dtype."""
    torch = import_torch()
    if name not in _TORCH:
        raise InvalidInput(f"torch has no dtype for {name}, of which several elements share a byte; use get_bytes")
    try:
        return getattr(torch, _TORCH[name])
    except AttributeError:
        raise MissingPackage(f"this torch has no {_TORCH[name]}; install a newer one") from None


def import_torch() -> Any:
    """torch, or an error that says what to install."""
    try:
        import torch
    except ImportError:
        raise MissingPackage("this needs torch; install it (pip install torch)") from None
    return torch


def check_framework(framework: str) -> str:
    """``np`` or ``pt``."""
    names = {"np": "np", "numpy": "np", "pt": "pt", "torch": "pt"}
    if framework not in names:
        raise InvalidInput(f'framework "{framework}" is not np or pt')
    if framework in ("pt", "torch"):
        import_torch()
    return names[framework]


def item_size(name: str) -> int:
    """Bytes of an element; 0 where it has no whole number of them."""
    return _SIZES.get(name, 0)


def raw_array(buffer: Buffer) -> "np.ndarray[Any, Any]":
    """The bytes themselves."""
    return np.asarray(buffer)


def units_array(buffer: Buffer, dtype: str, shape: Sequence[int]) -> "np.ndarray[Any, Any]":
    """Elements as unsigned integers of their size, which any numpy can index."""
    kind = np.dtype(f"<u{item_size(dtype)}") if dtype != "C64" else np.dtype("<c8")
    return np.asarray(buffer).view(kind).reshape(tuple(shape))


def array_of(units: "np.ndarray[Any, Any]", dtype: str, framework: str) -> Any:
    """Elements of :func:`units_array`, or some of them, as an array or tensor of their dtype."""
    if framework == "np":
        return units.view(numpy_dtype(dtype))
    wanted, torch = torch_dtype(dtype), import_torch()
    shape = units.shape
    # torch knows no read-only memory, so that it gets its own.
    if not (units.flags.writeable and units.flags.c_contiguous):
        units = np.array(units, order="C")
    return torch.from_numpy(units.reshape(-1).view(np.uint8)).view(wanted).reshape(shape)


def tensor_of(buffer: Buffer, dtype: str, shape: Sequence[int], framework: str) -> Any:
    """A whole tensor."""
    # Asked first: the error about a dtype should not depend on its size.
    numpy_dtype(dtype) if framework == "np" else torch_dtype(dtype)
    return array_of(units_array(buffer, dtype, shape), dtype, framework)
