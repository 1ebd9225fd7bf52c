"""Percentiles of long lists without sorting them: values are counted in cells, and only the cells asked for are sorted.

Cells are equal steps of the bits of a float, which ascend with it: fine where values are small, coarse where large.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loratwin.records.columns import FloatArray, IntArray, LongArray

_CELL_BITS = 12
_FEW = 2_000  # sorted as fast as counted
_INFINITY_BITS = int(np.array([np.inf]).view(np.int64)[0])


def percentiles(values: FloatArray, percents: Sequence[float]) -> tuple[float, ...]:
    """`np.percentile(values, percents)` (linear), to the bit. NaN without values."""
    if len(values) <= _FEW or np.isnan(values.max()):
        return tuple(np.percentile(values, percents).tolist()) if len(values) else (float("nan"),) * len(percents)
    quantiles = np.asarray(percents) / 100  # numpy's own steps, in its order
    place = quantiles * (len(values) - 1)
    low = np.floor(place)
    ranks = np.concatenate([low, np.minimum(low + 1, len(values) - 1)]).astype(np.int64)
    at_low, at_high = ranked(values, ranks).reshape(2, -1)
    part, gap = place - low, at_high - at_low
    return tuple(np.where(part >= 0.5, at_high - gap * (1 - part), at_low + gap * part).tolist())


def median(values: FloatArray) -> float:
    """`np.median(values)`, to the bit. NaN without values."""
    if not len(values):
        return float("nan")
    at = ranked(values, np.array([(len(values) - 1) // 2, len(values) // 2]))
    return float(at.mean())


def ranked(values: FloatArray, ranks: LongArray, weights: IntArray | LongArray | None = None) -> FloatArray:
    """The values at some places of the sorted list, 0 the least. Shape (num_ranks,).

    Parameters
    ----------
    values
        At least one.
    weights
        How often each value counts, from 0 on; None: once.
    """
    bits = np.ascontiguousarray(values).view(np.int64)
    low, high = int(bits.min()), int(bits.max())
    if len(values) <= _FEW or low < 0 or high > _INFINITY_BITS:  # negative, or NaN: bits do not ascend
        return _sorted(values, ranks, weights)
    cell = (bits - low) >> max(0, (high - low).bit_length() - _CELL_BITS)
    counts = np.bincount(cell, weights).astype(np.int64)  # sums of whole numbers are exact
    up_to = np.cumsum(counts)
    cells = np.searchsorted(up_to, ranks, side="right")
    result = np.empty(len(ranks))
    for number in np.unique(cells):
        here = np.flatnonzero(cell == number)
        asked = cells == number
        before = up_to[number] - counts[number]
        result[asked] = _sorted(values[here], ranks[asked] - before, None if weights is None else weights[here])
    return result


def _sorted(values: FloatArray, ranks: LongArray, weights: IntArray | LongArray | None) -> FloatArray:
    if weights is None:
        return np.sort(values)[ranks]
    order = np.argsort(values)
    at: FloatArray = values[order[np.searchsorted(np.cumsum(weights[order], dtype=np.int64), ranks, side="right")]]
    return at
