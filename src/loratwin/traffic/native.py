"""Native histograms of Prometheus as the classic series that say the same: a sum, a count, a counter for each bucket.

In an answer such a series has `histograms` in place of `values`: pairs of a time and `{count, sum, buckets}`, a bucket
as [boundary_rule, left, right, count], those without observations left out (Prometheus' HTTP API, "Native
histograms"). Boundaries are those of classic buckets (`convert_classic_histograms_to_nhcb`), or powers of a base that
a server may make coarser while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from loratwin.errors import DataError
from loratwin.traffic.observed import F8, I8
from loratwin.traffic.series import Counted

_SAME = 1e-9
"""Relative difference of boundaries that are one: a coarser base's are computed apart."""


class _Histograms(NamedTuple):
    """A series: a histogram at each of its times."""

    name: str
    labels: Mapping[str, str]
    place: I8
    """Shape (num_times,), as both below."""
    total: F8
    num: F8
    buckets: list[F8]
    """Of each time, shape (num_buckets, 3): left, right, observations."""


def classic_series(
    results: Iterable[Any], place_of: Callable[[float], int], num_ends: int, asked: str
) -> list[Counted]:
    """Series of an answer that have histograms, as those that a server without native ones would have.

    Parameters
    ----------
    place_of
        Which end of a step a time is; none where it is not one of `num_ends`.
    asked
        What was asked, to be said of an answer that is none.

    Raises
    ------
    DataError
        A histogram is not in the API's form.
    """
    by_name: dict[str, list[_Histograms]] = {}
    for one in results:
        if one.get("histograms"):
            read = _read(one, place_of, num_ends, asked)
            by_name.setdefault(read.name, []).append(read)
    return [each for group in by_name.values() for each in _series(group, num_ends)]


def _read(one: Any, place_of: Callable[[float], int], num_ends: int, asked: str) -> _Histograms:
    labels = dict(one["metric"])
    name = labels.pop("__name__", "")
    try:
        there = [(place, said) for at, said in one["histograms"] if 0 <= (place := place_of(float(at))) < num_ends]
        total, count = ([float(said[key]) for _, said in there] for key in ("sum", "count"))
        buckets = [_buckets(said) for _, said in there]
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{asked}: {name}: a histogram is not as Prometheus writes it ({error!r})") from None
    return _Histograms(
        name, labels, np.array([place for place, _ in there], np.int64), np.array(total), np.array(count), buckets
    )


def _buckets(said: Mapping[str, Any]) -> F8:
    rows = [[float(left), float(right), float(num)] for _, left, right, num in said.get("buckets") or ()]
    found = np.array(rows, np.float64).reshape(-1, 3)
    return found[np.argsort(found[:, 1], kind="stable")]


def _series(group: Sequence[_Histograms], num_ends: int) -> Iterator[Counted]:
    ends = _common_ends(group)
    for one in group:
        for part, values in (("sum", one.total), ("count", one.num)):
            yield _counted(one, part, {}, values, num_ends)
        below = _cumulative(one.buckets, ends)
        for end, values in zip(ends, below.T, strict=True):
            yield _counted(one, "bucket", {"le": repr(float(end))}, values, num_ends)
        if len(ends):
            yield _counted(one, "bucket", {"le": "+Inf"}, one.num, num_ends)


def _counted(one: _Histograms, part: str, more: Mapping[str, str], values: F8, num_ends: int) -> Counted:
    dense = np.full(num_ends, np.nan)
    dense[one.place] = values
    return Counted.of(f"{one.name}_{part}", {**one.labels, **more}, dense)


def _common_ends(group: Sequence[_Histograms]) -> F8:
    """Boundaries that no bucket of any series goes over, whenever it was: below each of them all is known."""
    every = [table for one in group for table in one.buckets if len(table)]
    if not every:
        return np.zeros(0)
    pairs = np.unique(np.concatenate(every)[:, :2], axis=0)
    ends = np.unique(pairs[np.isfinite(pairs) & (pairs > 0)])
    ends = ends[np.diff(ends, prepend=0.0) > _SAME * ends]
    inside = (pairs[:, :1] < ends * (1 - _SAME)) & (ends * (1 + _SAME) < pairs[:, 1:])
    return ends[~inside.any(axis=0)]


def _cumulative(buckets: Sequence[F8], ends: F8) -> F8:
    """Observations up to each end, shape (num_times, num_ends)."""
    below = np.zeros((len(buckets), len(ends)))
    for row, table in zip(below, buckets, strict=True):
        last = np.searchsorted(table[:, 1], ends * (1 + _SAME), side="right")
        row[:] = np.concatenate([[0.0], np.cumsum(table[:, 2])])[last]
    return below


def joined(classic: Sequence[Counted], native: Sequence[Counted]) -> list[Counted]:
    """Both, each observation once: a server may be asked for both at once, or change from one to the other.

    Where a series is there in both, the native one tells what came before and after the classic one's values; its
    buckets, whose boundaries may be others, count only where there are no classic ones.
    """
    known = {_key(one): i for i, one in enumerate(classic)}
    both = list(classic)
    for one in native:
        at = known.get(_key(one))
        if at is None:
            both.append(one)
        elif "le" not in one.labels:
            both[at] = _around(both[at], one)
    return both


def _key(one: Counted) -> tuple[str, frozenset[tuple[str, str]]]:
    return one.name, frozenset(item for item in one.labels.items() if item[0] != "le")


def _around(inner: Counted, outer: Counted) -> Counted:
    if not len(inner.place):
        return outer
    before, after = outer.place < inner.place[0], outer.place > inner.place[-1]
    parts = [
        (outer.place[before], outer.value[before]),
        (inner.place, inner.value),
        (outer.place[after], outer.value[after]),
    ]
    place, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    return inner._replace(place=place, value=value)
