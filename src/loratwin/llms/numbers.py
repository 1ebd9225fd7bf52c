"""Types of numbers that weights are kept in, and the bytes that they take with their scales.

Names are short and stand in profiles: `bfloat16`, `float32`, `fp8`, `nvfp4`, ... ; whole numbers name their group, as
`int4-g128`: 128 inputs share a scale of 16 bits (and with `-z` a zero point of their own).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

from loratwin.errors import InputError


class NumberFormat(NamedTuple):
    """How the weights of a linear layer are kept."""

    bits: float  # of one weight
    scale_bytes: float = 0.0  # of what a group shares: its scale, and its zero point
    group_inputs: int = 0  # inputs of a group; 0: all of them
    group_outputs: int = 0  # outputs of a group; 0: all of them

    def num_bytes(self, inputs: int, outputs: int) -> int:
        """Bytes of so many inputs times outputs, scales included."""
        groups = -(-inputs // (self.group_inputs or inputs)) * -(-outputs // (self.group_outputs or outputs))
        return int(inputs * outputs * self.bits / 8 + groups * self.scale_bytes)


_KNOWN = {
    "bfloat16": NumberFormat(16),
    "float32": NumberFormat(32),
    "fp8": NumberFormat(8, 4, 0, 0),  # one scale a matrix
    "fp8-channel": NumberFormat(8, 4, 0, 1),  # one an output
    "fp8-block": NumberFormat(8, 4, 128, 128),
    "int8": NumberFormat(8, 4, 0, 1),
    "bnb-8bit": NumberFormat(8, 4, 0, 1),
    "bnb-4bit": NumberFormat(4, 4, 64, 1),  # blocks of 64 weights; vLLM keeps their scales in float32
    "nvfp4": NumberFormat(4, 1, 16, 1),
    "mxfp4": NumberFormat(4, 1, 32, 1),
    "mxfp8": NumberFormat(8, 1, 32, 1),
}

_GROUPED = re.compile(r"int([2348])-g(\d+)(-z)?")


@lru_cache(maxsize=64)
def numbers(name: str) -> NumberFormat:
    """The type of a name.

    Raises
    ------
    InputError
        No such type.
    """
    if name in _KNOWN:
        return _KNOWN[name]
    if grouped := _GROUPED.fullmatch(name):
        bits, group = int(grouped[1]), int(grouped[2])
        return NumberFormat(bits, 2 + (bits / 8 if grouped[3] else 0), group, 1)
    raise InputError(f"unknown type of numbers {name!r}: it must be one of {', '.join(_KNOWN)}, or as int4-g128")


def _is_known(name: str) -> str:
    try:
        numbers(name)
    except InputError as error:
        raise ValueError(str(error)) from None
    return name


NumberType = Annotated[str, AfterValidator(_is_known)]
"""A name that `numbers` knows."""
