"""Random weights in a safetensors file, with numpy alone.

A safetensors file is the length of a header (8 bytes, little endian), the header (JSON: name -> dtype, shape, offsets)
and the data. It is written here and not by the library of that name, whose interface for bfloat16 without torch differs
between its versions; the tests read the files with the library.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Dtype = Literal["bfloat16", "float16", "float32"]

DTYPE_BYTES: dict[Dtype, int] = {"bfloat16": 2, "float16": 2, "float32": 4}

_CODES: dict[Dtype, str] = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}  # names in the header
_EXPONENT_BIAS = 127  # of bfloat16, which is the upper half of float32
_MANTISSA_BITS = 7
_RMS = math.sqrt(7 / 3)  # of a number that is uniform in [1, 2]


class Tensor(NamedTuple):
    """A tensor to be made."""

    shape: tuple[int, ...]
    size: float
    """Random numbers with about this root mean square; 1.0 with `constant`: ones."""
    constant: bool = False


def safetensors_file(tensors: Mapping[str, Tensor], dtype: Dtype, rng: np.random.Generator) -> bytes:
    """A whole file with these tensors, drawn in this order."""
    width, start, header = DTYPE_BYTES[dtype], 0, {}
    for name, tensor in tensors.items():
        end = start + width * math.prod(tensor.shape)
        header[name] = {"dtype": _CODES[dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    data = (_values(tensor, dtype, rng).tobytes() for tensor in tensors.values())
    return b"".join((len(text).to_bytes(8, "little"), text, *data))


def _values(tensor: Tensor, dtype: Dtype, rng: np.random.Generator) -> NDArray[np.generic]:
    bits = _ones(tensor.shape) if tensor.constant else random_bits(tensor.shape, tensor.size, rng)
    return _CONVERT[dtype](bits)


def _ones(shape: tuple[int, ...]) -> NDArray[np.uint16]:
    return np.full(shape, _EXPONENT_BIAS << _MANTISSA_BITS, np.uint16)


def random_bits(shape: tuple[int, ...], size: float, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Random bfloat16 numbers as bits: sign and mantissa are random, the exponent is fixed.

    All are thus between 2^e and 2^(e + 1) in magnitude, with e chosen so that their root mean square, 2^e sqrt(7/3), is
    nearest to `size`: never 0, never NaN, and made as fast as random bytes.
    """
    exponent = _EXPONENT_BIAS + round(math.log2(size / _RMS))
    raw: NDArray[np.uint16] = np.frombuffer(rng.bytes(2 * math.prod(shape)), np.uint16).reshape(shape)
    bits: NDArray[np.uint16] = (raw & np.uint16(0x807F)) | np.uint16(exponent << _MANTISSA_BITS)
    return bits


def _float32(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype("<u4") << 16).view("<f4")


_CONVERT: dict[Dtype, Callable[[NDArray[np.uint16]], NDArray[np.generic]]] = {
    "bfloat16": lambda bits: bits,
    "float16": lambda bits: _float32(bits).astype("<f2"),
    "float32": _float32,
}
