"""A length distribution as a table of equally likely lengths.

Drawing n lengths is then ``table[rng.integers(0, len(table), n)]``: a few nanoseconds each for every distribution, and
the mean of the draws is the mean of the table, which can be set exactly, bounds and whole tokens included. (Cutting a
distribution at its bounds without such a correction is what inflates the published twin's tokens by a tenth.)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from loratwin.workload.arrays import F8, I4

U4 = NDArray[np.uint16] | NDArray[np.uint32]

TABLE_SIZE = 65_536
"""Lengths in a table made from a continuous distribution: an index is 16 random bits."""

_GOLDEN = 0.6180339887498949


def levels(size: int = TABLE_SIZE) -> F8:
    """Probabilities in the middle of `size` equal parts of (0, 1), shape (size,)."""
    middles: F8 = (np.arange(size) + 0.5) / size
    return middles


def normal_quantiles() -> F8:
    """Standard normal quantiles at `levels`, shape (TABLE_SIZE,); exact to 1e-5."""
    grid = np.linspace(-5, 5, 4097)
    below = np.array([0.5 * math.erfc(-z / math.sqrt(2)) for z in grid])
    return np.interp(levels(), below, grid)


def whole_tokens(lengths: F8) -> I4:
    """Round so that the mean stays: up or down by a regular pattern, as often up as the fraction says.

    The pattern is the golden-ratio sequence, which is spread evenly over any stretch of a sorted table.
    """
    dither = (np.arange(len(lengths)) * _GOLDEN) % 1.0
    return np.floor(lengths + dither).astype(np.int32)


def scaled_to_mean(lengths: F8, mean: float, low: int, high: int) -> F8:
    """Lengths times the one factor that makes their mean `mean` after they are cut to [low, high].

    Parameters
    ----------
    lengths : shape (n,), positive, ascending
    mean : strictly between low and high

    Notes
    -----
    The mean of the cut lengths grows steadily with the factor, so bisection (on the logarithm) finds it. Cumulative
    sums give that mean without touching every length.
    """
    sums = np.concatenate([[0.0], np.cumsum(lengths)])
    down, up = math.log(low / lengths[-1]), math.log(high / lengths[0])
    while up - down > 1e-10:
        middle = (down + up) / 2
        factor = math.exp(middle)
        first, last = np.searchsorted(lengths, [low / factor, high / factor])
        total = first * low + factor * (sums[last] - sums[first]) + (len(lengths) - last) * high
        down, up = (middle, up) if total < mean * len(lengths) else (down, middle)
    scaled: F8 = np.clip(lengths * math.exp(up), low, high)
    return scaled


def stretched(samples: F8) -> F8:
    """Samples repeated to TABLE_SIZE sorted entries, each as often as any other to within one."""
    return np.sort(samples)[(levels() * len(samples)).astype(np.int64)]


def draw_lengths(rng: np.random.Generator, table: I4, num: int) -> I4:
    """`num` lengths from a table, shape (num,)."""
    if len(table) == 1:
        return np.full(num, table[0], dtype=np.int32)
    return table.take(draw_indices(rng, len(table), num))


def draw_indices(rng: np.random.Generator, size: int, num: int) -> U4:
    """`num` random indices of a table, shape (num,); 16 bits each where the table allows it."""
    if size == TABLE_SIZE:
        return rng.integers(0, size, num, dtype=np.uint16)
    return rng.integers(0, size, num, dtype=np.uint32)
