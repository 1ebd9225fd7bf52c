"""Samples as they come in: one compact column for each series, NaN where it was not there."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from loratwin.records.columns import BoolArray, FloatArray
from loratwin.records.series import Samples, Series

NAN = float("nan")


class Kind(IntEnum):
    """What the values of a series mean; the numbers stand in journals."""

    GAUGE = 0
    COUNTER = 1
    HISTOGRAM = 2  # a bucket, sum or count: kept as it comes, given out as what came since the scrape before


class SeriesKey(NamedTuple):
    """What tells one series from another."""

    name: str
    labels: tuple[tuple[str, str], ...]
    kind: Kind


class SampleTable:
    """Samples of one source. One thread may append while another reads.

    8 bytes for each value: an hour of 300 series once a second is 9 MB.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._times = array("d")
        self._columns: dict[SeriesKey, array[float]] = {}
        self._last: dict[SeriesKey, float] = {}
        self._restarts: list[int] = []  # rows
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._times)

    @property
    def restarts_s(self) -> tuple[float, ...]:
        """When counters were seen to have gone back: the server had been restarted."""
        return tuple(self._times[row] for row in self._restarts)

    def append(self, time_s: float, values: Mapping[SeriesKey, float]) -> None:
        """One sample; none of the series is in `values` where it failed."""
        with self._lock:
            row = len(self._times)
            if any(key.kind and value < self._last.get(key, value) for key, value in values.items()):
                self._restarts.append(row)
            for key, value in values.items():
                column = self._columns.setdefault(key, array("d"))
                _pad(column, row)
                column.append(value)
            self._last.update(values)
            self._times.append(time_s)

    def samples(self, zero_s: float, from_s: float, to_s: float) -> Samples:
        """What was sampled in [from_s, to_s], in the clock of `append`; the times given out count from `zero_s`."""
        with self._lock:
            time_s = np.array(self._times, dtype=np.float64)
            columns = {key: _padded(column, len(time_s)) for key, column in self._columns.items()}
            restarted = np.zeros(len(time_s), dtype=np.bool_)
            restarted[self._restarts] = True
        chosen = (time_s >= from_s) & (time_s <= to_s)
        series = []
        for key, column in columns.items():
            values = _increments(column, restarted) if key.kind is Kind.HISTOGRAM else column
            if not np.isnan(values[chosen]).all():
                series.append(Series(key.name, key.labels, values[chosen]))
        return Samples(self.source, time_s[chosen] - zero_s, tuple(series))


def _pad(column: array[float], length: int) -> None:
    if len(column) < length:
        column.extend([NAN] * (length - len(column)))


def _padded(column: array[float], length: int) -> FloatArray:
    whole = np.full(length, NAN)
    whole[: len(column)] = column
    return whole


def _increments(values: FloatArray, restarted: BoolArray) -> FloatArray:
    """What each value adds to the one before it that is not NaN; after a restart, all of it."""
    rows = np.flatnonzero(~np.isnan(values))
    found = np.full(len(values), NAN)
    if len(rows):
        restarts = np.cumsum(restarted)[rows]  # a restart may fall on a row where this series is missing
        found[rows[1:]] = np.where(np.diff(restarts) > 0, values[rows[1:]], np.diff(values[rows]))
    return found
