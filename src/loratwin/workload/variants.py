"""The same requests, but: faster, fewer minutes of them, more of some adapters, or those of some in a burst.

No chance is added: two variants of a workload differ in what is asked for only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import InputError
from loratwin.workload.arrays import F8, I4, Workload, arrival_order


def faster(workload: Workload, factor: float) -> Workload:
    """The same requests arriving `factor` times as fast, so that the window is shorter by as much.

    Every adapter, however its requests arrive, then asks for `factor` times as much.
    """
    if factor == 1.0:
        return workload
    workload.check_rated("a change of all rates")
    rates = workload.adapters.rate_per_s * factor
    return replace(
        workload,
        arrival_s=workload.arrival_s / factor,
        window_s=workload.window_s / factor,
        adapters=replace(workload.adapters, rate_per_s=rates),
        base_rate_per_s=workload.base_rate_per_s * factor,
    )


def first_part(workload: Workload, share: float) -> Workload:
    """The requests of the first part of the window, and that part as window."""
    if share == 1.0:
        return workload
    workload.check_rated("a part of the window")
    end_s = share * workload.window_s
    kept = np.arange(int(np.searchsorted(workload.arrival_s, end_s)))
    return replace(_taken(workload, kept, workload.arrival_s[kept]), window_s=end_s)


def grown(workload: Workload, adapters: Sequence[int], factor: float) -> Workload:
    """Some adapters (indices) ask `factor` times as often, all others as before; the window stays.

    Their requests come `factor` times as fast, and again from the first on until the window is full: the kind of
    arrivals and the lengths stay what they are.

    Raises
    ------
    InputError
        A factor below 0, or one that is no number.
    """
    if not 0 <= factor < np.inf:
        raise InputError(f"a rate cannot be scaled by {factor:g}: the factor must be 0 or more")
    workload.check_rated("a change of rates")
    theirs = np.isin(workload.adapter, np.asarray(adapters, dtype=np.int32))
    of_adapters, others = np.flatnonzero(theirs), np.flatnonzero(~theirs)
    rows, times = _repeated(of_adapters, workload.arrival_s[of_adapters], factor, workload.window_s)
    rates = workload.adapters.rate_per_s.copy()
    rates[list(adapters)] *= factor
    changed = _taken(workload, np.concatenate([others, rows]), np.concatenate([workload.arrival_s[others], times]))
    return replace(changed, adapters=replace(workload.adapters, rate_per_s=rates))


def burst_of(workload: Workload, adapters: Sequence[int], start_s: float, length_s: float) -> Workload:
    """All requests of some adapters (indices) within `length_s` from `start_s` on, in their order; others as before."""
    workload.check_rated("a burst")
    theirs = np.isin(workload.adapter, np.asarray(adapters, dtype=np.int32))
    times = np.where(theirs, start_s + workload.arrival_s * (length_s / workload.window_s), workload.arrival_s)
    return _taken(workload, np.arange(len(times)), times)


def _repeated(rows: NDArray[np.int64], arrival_s: F8, factor: float, window_s: float) -> tuple[NDArray[np.int64], F8]:
    """Rows of requests that come `factor` times as fast, over and over, and when they come."""
    if not len(rows) or not factor:
        return rows[:0], arrival_s[:0]
    period_s = window_s / factor
    rounds = ceil(factor)
    times = np.concatenate([arrival_s / factor + i * period_s for i in range(rounds)])
    inside = times < window_s
    return np.tile(rows, rounds)[inside], times[inside]


def _taken(workload: Workload, rows: NDArray[np.int64], arrival_s: F8) -> Workload:
    """These requests (some perhaps more than once) at these times, in order of arrival."""
    adapter: I4 = workload.adapter[rows]
    order = arrival_order(arrival_s, adapter)
    sharing = None if workload.sharing is None else workload.sharing.take(rows[order])
    return replace(
        workload,
        arrival_s=arrival_s[order],
        adapter=adapter[order],
        prompt_tokens=workload.prompt_tokens[rows][order],
        output_tokens=workload.output_tokens[rows][order],
        sharing=sharing,
    )
