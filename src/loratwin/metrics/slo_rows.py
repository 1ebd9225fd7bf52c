"""Who keeps the SLO: the server as a whole, each group of adapters, or each adapter for itself.

A server whose p99 is within 2 s can have customers whose own is not: the busy ones fill its percentiles. So the same
limits are asked of every row: one row for the server, or one for each group, or one for each adapter.

A percentile needs requests: 99 % of fewer than a hundred is not a number of requests. A row of fewer is *undecided*,
but for one that is too late by more than chance: so many late requests would be seen in less than one row of twenty
that keeps the SLO (binomial distribution).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, inf
from typing import Literal, NamedTuple, get_args

import numpy as np

from loratwin.errors import UnknownNameError
from loratwin.metrics.groups import NO_ADAPTER, Groups, grouped_percentile, in_groups, share
from loratwin.metrics.latency import Side
from loratwin.metrics.slo import Limit, Slo, place_of, within_s
from loratwin.records import Run
from loratwin.records.columns import BoolArray, FloatArray, IntArray

SloFor = Literal["all", "groups", "adapters"]
"""Of whom the limits are asked."""

CHANCE = 0.05
"""Probability of so many late requests below which a row of few requests misses its limit."""


def check_slo_for(name: str) -> SloFor:
    """A word as `SloFor`.

    Raises
    ------
    UnknownNameError
        It is none.
    """
    if name not in get_args(SloFor):
        raise UnknownNameError("SLO's reach (--slo-for)", name, get_args(SloFor))
    return name  # type: ignore[return-value]  # looked up


@dataclass(frozen=True, eq=False)
class SloRows:
    """What each row makes of each limit. Arrays have shape (num_limits, num_rows)."""

    limits: tuple[Limit, ...]
    name: tuple[str, ...]  # of the rows
    requests: IntArray  # shape (num_rows,)
    value_s: FloatArray  # NaN: unknown; infinite: never answered
    missed: BoolArray
    undecided: BoolArray  # too few requests to tell

    @property
    def num_missing(self) -> int:
        """Rows that miss a limit."""
        return int(self.missed.any(axis=0).sum())

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the rows that miss a limit."""
        return tuple(self.name[i] for i in np.flatnonzero(self.missed.any(axis=0)))

    def slack(self) -> tuple[float, ...]:
        """For each limit the least `Limit.slack` of all rows; infinite where it can be told of none.

        A row that is undecided would miss its limit with more late requests than it has: it does not count.
        """
        decided = ~self.undecided
        return tuple(
            min((limit.slack(value) for value in values[rows]), default=inf)
            for limit, values, rows in zip(self.limits, self.value_s, decided, strict=True)
        )

    def of(self, which: BoolArray) -> SloRows:
        """Only the rows that are marked, shape (num_rows,)."""
        rows = np.flatnonzero(which)
        columns = (self.value_s[:, rows], self.missed[:, rows], self.undecided[:, rows])
        return SloRows(self.limits, tuple(self.name[i] for i in rows), self.requests[rows], *columns)

    @property
    def num_undecided(self) -> int:
        """Rows of which a limit cannot be told, and none is missed."""
        return int((self.undecided.any(axis=0) & ~self.missed.any(axis=0)).sum())


def slo_rows(
    run: Run,
    slo: Slo,
    slo_for: SloFor = "adapters",
    group: IntArray | None = None,
    group_names: Sequence[str] = (),
    side: Side = "client",
) -> SloRows:
    """The SLO asked of every row.

    A row without requests is undecided; one with requests of which none finished misses its limits.

    Parameters
    ----------
    group
        Group of each adapter, shape (num_adapters,); needed for `groups`.
    group_names
        Names of the groups, in the order of their index.
    """
    of, names = _rows(run, slo_for, group, group_names)
    columns = [_of_limit(run, limit, of, len(names), side) for limit in slo.limits]
    value_s, missed, undecided = (np.array(part) for part in zip(*columns, strict=True))
    requests = np.bincount(of, minlength=len(names)).astype(np.int32)
    return SloRows(slo.limits, names, requests, value_s, missed, undecided)


def _rows(
    run: Run, slo_for: SloFor, group: IntArray | None, group_names: Sequence[str]
) -> tuple[IntArray, tuple[str, ...]]:
    """Row of each request, and the names of the rows."""
    if slo_for == "all":
        return np.zeros(len(run.requests), dtype=np.int32), ("the server",)
    groups = Groups(run)
    if slo_for == "adapters":
        return groups.of, groups.names
    known = np.zeros(len(run.adapters), dtype=np.int32) if group is None else group
    number = int(known.max(initial=-1)) + 1
    names = tuple(group_names[i] if i < len(group_names) else f"group {i}" for i in range(number))
    base = groups.size > len(run.adapters)
    return np.append(known, number)[groups.of].astype(np.int32), (*names, *([NO_ADAPTER] if base else []))


def missing_rows(
    run: Run,
    slo: Slo,
    slo_for: SloFor = "adapters",
    group: IntArray | None = None,
    group_names: Sequence[str] = (),
    side: Side = "client",
) -> tuple[str, ...]:
    """Names of the rows that miss a limit: `slo_rows(...).missing` in a fraction of the time."""
    of, names = _rows(run, slo_for, group, group_names)
    missed = np.zeros(len(names), dtype=bool)
    for limit in slo.limits:
        missed |= _judged(run, limit, of, len(names), side).missed
    return tuple(names[i] for i in np.flatnonzero(missed))


class _Judged(NamedTuple):
    """Requests that one limit is judged by, and what becomes of each row."""

    values: FloatArray  # seconds
    row: IntArray  # of each value
    num: IntArray  # values of each row
    missed: BoolArray  # shape (num_rows,), as the next
    undecided: BoolArray


_Column = tuple[FloatArray, BoolArray, BoolArray]
"""Seconds, missed, undecided of each row."""


def _of_limit(run: Run, limit: Limit, of: IntArray, num_rows: int, side: Side) -> _Column:
    judged = _judged(run, limit, of, num_rows, side)
    return _figure(judged.values, judged.row, judged.num, limit), judged.missed, judged.undecided


def _judged(run: Run, limit: Limit, of: IntArray, num_rows: int, side: Side) -> _Judged:
    judged_s = limit.judged_s(run, side)
    known = np.flatnonzero(~np.isnan(judged_s))
    values, row = judged_s[known], of[known]
    num = np.bincount(row, minlength=num_rows).astype(np.int32)
    missed = _missed(values, row, num, limit)
    few = _few(num, limit)
    if few.any():
        num_late = np.bincount(row[values > limit.limit_s], minlength=num_rows)
        missed[few] = False
        late = np.flatnonzero(few & (num_late > 0))  # of none late the chance is 1
        allowed = limit.allowed_late or 0.0
        counts = zip(num[late].tolist(), num_late[late].tolist(), strict=True)
        missed[late] = [_chance(n, k, allowed) < CHANCE for n, k in counts]
    silent = np.bincount(of, minlength=num_rows) == 0
    return _Judged(values, row, num, missed & ~silent, (few & ~missed) | silent)


def _missed(values: FloatArray, row: IntArray, num: IntArray, limit: Limit) -> BoolArray:
    """Whether the figure of each row is above the limit, or there is none. Shape (num_rows,).

    A percentile lies between two values. How many are within the limit says whether both are, and only where one is
    and the other is not must it be computed.
    """
    if limit.statistic == "mean":
        above: BoolArray = ~(_figure(values, row, num, limit) <= limit.limit_s)
        return above
    kept = np.bincount(row[values <= limit.limit_s], minlength=len(num))
    if limit.share is not None:
        place = np.array([place_of(n, limit.share) for n in num.tolist()], dtype=np.int64)
        late: BoolArray = (num == 0) | (kept <= place)
        return late
    low: FloatArray = np.floor(float(limit.statistic[1:]) / 100 * (num - 1))
    missed: BoolArray = (num == 0) | (kept <= low)
    between = (kept == low + 1) & (kept < num)
    if between.any():
        which = between[row]
        figure_s = _figure(values[which], row[which], np.where(between, num, 0).astype(np.int32), limit)
        missed[between] = ~(figure_s[between] <= limit.limit_s)
    return missed


def _few(num: IntArray, limit: Limit) -> BoolArray:
    """Rows of which the limit allows less than one late request."""
    return np.zeros(len(num), dtype=bool) if limit.allowed_late is None else few_for(num, limit.allowed_late)


def few_for(num: IntArray, above: float) -> BoolArray:
    """Rows of too few requests for a percentile: less than one of them lies above it.

    Parameters
    ----------
    num
        Requests of each row, shape (num_rows,).
    above
        Part of the requests above the percentile: 0.01 of the 99th.
    """
    few: BoolArray = (num > 0) & (num * above < 1 - 1e-9)
    return few


def _figure(values: FloatArray, row: IntArray, num: IntArray, limit: Limit) -> FloatArray:
    """Mean, percentile or share of the values of each row, in seconds; NaN without values."""
    if limit.statistic == "mean":
        total = np.bincount(row, weights=values, minlength=len(num)).astype(np.float64)
        return share(total, num.astype(np.float64))
    ordered = in_groups(values, row, num)
    if limit.share is None:
        return grouped_percentile(ordered, num, float(limit.statistic[1:]))
    return np.array([within_s(part, limit.share) for part in np.split(ordered, np.cumsum(num)[:-1])])


@lru_cache(maxsize=10_000)
def _chance(num: int, late: int, allowed: float) -> float:
    """Probability that of so many requests so many or more are late, where this share of them may just be."""
    return 1.0 - sum(comb(num, k) * allowed**k * (1 - allowed) ** (num - k) for k in range(late))
