"""Products of matrices: m tokens, k inputs, n outputs, from tables of how far above the bound they were measured.

The bound is the roofline: bytes of weights and activations over the memory's peak, or floating-point operations over
the peak for the type of numbers. Tables hold the logarithm of the measured time over it at M x N x K, in steps of
STEP; between the knots it is interpolated linearly in the logarithms of the sizes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]

M = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 160, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384)
N = (256, 512, 768, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192, 10240, 12288, 16384, 51200, 65536)
K = N
STEP = 0.02
"""Of the codes, in the natural logarithm: rounding is off by 0.6 % (one standard deviation), at random."""

_BITS = {"bfloat16": 16.0, "fp8": 8.0, "nvfp4": 4.5}
_SPEED = {"bfloat16": 1, "fp8": 2, "nvfp4": 4}


KINDS = tuple(_BITS)
"""Types of numbers that tables are made of."""


def weight_bits(kind: str) -> float:
    """Of one weight, scales of groups included, of a measured type of numbers."""
    return _BITS[kind]


def product_bound_s(
    bytes_per_s: float, flops: float, kind: str, m: F8 | float, n: F8 | float, k: F8 | float, bits: float = 0.0
) -> F8:
    """Seconds that no product takes less than.

    Parameters
    ----------
    bytes_per_s, flops
        Peaks of the GPU; `flops` with numbers of 16 bits.
    kind
        Measured type of numbers that the product computes with.
    bits
        Of a weight in memory where it is kept in another type; 0: that of `kind`.
    """
    moved = n * k * (bits or _BITS[kind]) / 8 + 2 * m * (n + k)
    return np.asarray(np.maximum(moved / bytes_per_s, 2.0 * m * n * k / (flops * _SPEED[kind])))


class Products(NamedTuple):
    """One GPU's products with one type of numbers."""

    kind: str
    over: NDArray[Any]  # (len(M), len(N), len(K)) log of measured time / bound
    bytes_per_s: float  # peaks of the GPU that it was measured on
    flops: float
    memory_share: float  # of the peak, that large matrices reach with few tokens
    error: float  # standard deviation of the logarithm between knots of n and k

    def time_s(self, bytes_per_s: float, flops: float, m: F8, n: int, k: int, bits: float = 0.0) -> F8:
        """Seconds for so many tokens.

        On a GPU with other peaks, and for weights kept in fewer bits, memory turns into computing at another number of
        tokens: the table is read at as much of that. There only the bound is in proportion to the peaks; what a product
        takes beyond the bound and the memory's share (launches, last waves) is taken as it was measured.

        Parameters
        ----------
        m
            Tokens, shape (sizes,), at least 1.
        """
        bound = product_bound_s(bytes_per_s, flops, self.kind, m, n, k, bits)
        turn = self.flops / self.bytes_per_s / (flops / bytes_per_s) * _BITS[self.kind] / (bits or _BITS[self.kind])
        over = np.exp(self._between(np.maximum(m * turn, 1.0), n, k))
        measured_bound = product_bound_s(self.bytes_per_s, self.flops, self.kind, m, n, k, bits)
        return np.asarray(bound / self.memory_share + (over - 1 / self.memory_share) * measured_bound)

    def _between(self, m: F8, n: int, k: int) -> F8:
        """Three linear interpolations; beyond the ends, the ends."""
        of_n, of_k = _weights(N, n), _weights(K, k)
        column = np.einsum("mnk,n,k->m", self.over, of_n, of_k)
        return np.asarray(np.interp(np.log(m), np.log(M), column))


def _weights(knots: tuple[int, ...], value: float) -> F8:
    """Of each knot in a linear interpolation by the logarithm."""
    unit = np.eye(len(knots))
    at = np.log(np.clip(value, knots[0], knots[-1]))
    return np.array([np.interp(at, np.log(knots), row) for row in unit])
