"""Requests grouped by adapter: counts, sums, means and percentiles of each group at once."""

from __future__ import annotations

import itertools

import numpy as np

from loratwin.records import Run
from loratwin.records.columns import BoolArray, FloatArray, IntArray

NO_ADAPTER = "(no adapter)"
"""Name of the row for requests to the LLM without adapter."""


def share(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Part / whole; NaN where the whole is 0."""
    ratio: FloatArray = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return ratio


class Groups:
    """Requests grouped by adapter; those without adapter form a last group, if there are any."""

    def __init__(self, run: Run) -> None:
        num_adapters = len(run.adapters)
        self.of = np.where(run.requests.adapter < 0, num_adapters, run.requests.adapter)
        base = bool((self.of == num_adapters).any())
        self.size = num_adapters + base
        self.names = run.adapters.name + ((NO_ADAPTER,) if base else ())
        self.adapter = np.concatenate([np.arange(num_adapters), [-1] * base]).astype(np.int32)

    def count(self, which: BoolArray | None = None) -> IntArray:
        """Requests of each group, or those of them that `which` marks."""
        return np.bincount(self.of if which is None else self.of[which], minlength=self.size).astype(np.int32)

    def sum(self, values: FloatArray, which: BoolArray | None = None) -> FloatArray:
        """Sum of `values`, one for each request, over each group, or over those of it that `which` marks."""
        chosen = slice(None) if which is None else which
        return np.bincount(self.of[chosen], weights=values[chosen], minlength=self.size).astype(np.float64)

    def mean_and_percentiles(
        self, values: FloatArray, which: BoolArray, percents: tuple[float, ...]
    ) -> tuple[FloatArray, ...]:
        """Mean and percentiles (linear, as numpy's) of `values`, which belong to the requests `which`."""
        of = self.of[which]
        count = self.count(which)
        total = np.bincount(of, weights=values, minlength=self.size).astype(np.float64)
        mean = share(total, count.astype(np.float64))
        ordered = in_groups(values, of, count)
        return mean, *(grouped_percentile(ordered, count, percent) for percent in percents)


def in_groups(values: FloatArray, of: IntArray, count: IntArray) -> FloatArray:
    """The values of each group one behind the other, sorted within. `of` is the group of each, `count` how many."""
    small = of.astype(np.int16 if len(count) < 2**15 else np.int32)  # radix sort
    ordered: FloatArray = values[np.argsort(small, kind="stable")]
    for begin, end in itertools.pairwise([0, *np.cumsum(count).tolist()]):
        ordered[begin:end].sort()
    return ordered


def grouped_percentile(ordered: FloatArray, count: IntArray, percent: float) -> FloatArray:
    """Percentile of each group of `ordered`, whose groups follow each other, sorted within."""
    some = count > 0
    first = (np.cumsum(count) - count)[some]
    place = percent / 100 * (count[some] - 1)
    low = np.floor(place).astype(np.int64)
    at_low, at_high = ordered[first + low], ordered[first + np.minimum(low + 1, count[some] - 1)]
    result = np.full(len(count), np.nan)
    result[some] = at_low + (place - low) * (at_high - at_low)
    return result
