"""Layers of experts: both products of all experts that a step's tokens are sent to, as one fused kernel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]

MEASURED_AS = {
    "bfloat16": "bfloat16", "fp8": "fp8", "fp8-channel": "fp8", "fp8-block": "fp8_block", "nvfp4": "nvfp4",
    "mxfp4": "w4a16_mxfp4",
}  # fmt: skip
"""Types of numbers of weights -> those that were measured; whole numbers of 4 bits are `int4_wo`."""

BITS = {"bfloat16": 16.0, "fp8": 8.0, "fp8_block": 8.0, "nvfp4": 4.5, "w4a16_mxfp4": 4.25, "int4_wo": 4.125}
SPEED = {"bfloat16": 1, "fp8": 2, "fp8_block": 2, "nvfp4": 4, "w4a16_mxfp4": 1, "int4_wo": 1}
"""Times as many operations as with 16 bits."""


def touched(experts: float | F8, used: float | F8, tokens: F8) -> F8:
    """How many of the experts some token is sent to, on average, where each is sent to `used` of them at random."""
    return np.asarray(experts * (1 - (1 - used / experts) ** tokens))


class Experts(NamedTuple):
    """A launch, the weights of the touched experts, and the operations of all tokens, added."""

    launch_s: float
    memory_share: float  # of the peak
    share: float  # of the peak operations with this type of numbers
    error: float = 0.0  # mean of |log(fitted / measured)|

    def time_s(self, num_bytes: F8, operations: F8, bytes_per_s: float, flops: float) -> F8:
        """Seconds of one layer that reads so many bytes of weights; `flops`: the peak with its type of numbers."""
        return np.asarray(
            self.launch_s + num_bytes / (self.memory_share * bytes_per_s) + operations / (self.share * flops)
        )
