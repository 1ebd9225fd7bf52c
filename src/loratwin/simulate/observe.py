"""What a client measures of a simulated run: the engine's times seen through the front end (perf/frontend.py)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loratwin.metrics import itl_mean_s, tpot_s, ttft_s
from loratwin.metrics.latency import finished_only
from loratwin.perf import Frontend
from loratwin.records import Run

F8 = NDArray[np.float64]

_NUM_BINS = 12
_KEY_SEED = 20_250_811


@dataclass(frozen=True)
class Observation:
    """Latencies at the client in seconds, over requests finished in the window; NaN when there are none."""

    ttft_mean_s: float
    ttft_median_s: float
    tpot_mean_s: float
    itl_mean_s: float  # gaps between deliveries, as a streaming client counts them


@dataclass(frozen=True)
class MetricSeries:
    """Series of `lora_requests_info` at the end of each of the window's equal parts. Arrays of shape (parts,)."""

    num_series: F8
    num_names: F8  # adapter names in all of them

    def mean_over_parts(self) -> tuple[F8, F8]:
        """Series and names in the middle of each part."""
        return _middles(self.num_series), _middles(self.num_names)


def _middles(ends: F8) -> F8:
    middles: F8 = (np.concatenate([[0.0], ends[:-1]]) + ends) / 2
    return middles


def observe(run: Run, frontend: Frontend) -> Observation:
    """Latencies as the measuring client would have reported them, `/metrics` being scraped.

    The scrapes of the fitted servers are included; a server that nobody scrapes has `itl_mean_s` of the engine.
    """
    done = finished_only(run)
    if not len(done.requests):
        nan = float("nan")
        return Observation(nan, nan, nan, nan)
    ttft = ttft_s(done, side="engine") + frontend.overhead_s
    tpot = tpot_s(done)
    tpot = tpot[~np.isnan(tpot)]
    stall = frontend.stall_s(*metric_series(run).mean_over_parts())
    extra = frontend.extra_ttft_s(stall) + frontend.first_use_s * _num_used(done) / len(done.requests)
    return Observation(
        ttft_mean_s=float(ttft.mean()) + extra,
        ttft_median_s=float(np.median(ttft)),
        tpot_mean_s=float(tpot.mean()) if len(tpot) else float("nan"),
        itl_mean_s=frontend.delivery_gap_s(itl_mean_s(done), stall),
    )


def _num_used(run: Run) -> int:
    used = np.unique(run.requests.adapter)
    return int(np.count_nonzero(used >= 0))


def metric_series(run: Run) -> MetricSeries:
    """Count the combinations of running and waiting adapters that the engine's steps showed.

    A combination counts once, when it is first seen at the end of a step. It is told by the exclusive-or of random
    64-bit keys of its adapters (Zobrist hashing), kept along the moments at which an adapter enters or leaves a set.
    The measured delays lie halfway between those of the running sets alone and those of both sets: the mean is taken.
    """
    entering_or_leaving = [_running_changes(run), _waiting_changes(run)]
    running, both = _count(run, entering_or_leaving[:1]), _count(run, entering_or_leaving)
    return MetricSeries((running.num_series + both.num_series) / 2, (running.num_names + both.num_names) / 2)


@dataclass(frozen=True)
class _Changes:
    """Moments at which adapters enter (+1) or leave (-1) a set."""

    time_s: F8
    adapter: NDArray[np.int32]
    change: NDArray[np.int64]


def _running_changes(run: Run) -> _Changes:
    r = run.requests
    return _set_changes(r.adapter, r.first_token_s, np.where(r.finish_s <= run.window_s, r.finish_s, np.inf))


def _waiting_changes(run: Run) -> _Changes:
    r = run.requests
    arrival = np.where(r.refused, np.nan, r.arrival_s)
    return _set_changes(r.adapter, arrival, np.where(np.isnan(r.first_token_s), np.inf, r.first_token_s))


def _set_changes(adapter: NDArray[np.int32], start_s: F8, end_s: F8) -> _Changes:
    """When the number of requests of an adapter in [start, end) leaves or reaches 0; NaN starts never happen."""
    keep = (adapter >= 0) & ~np.isnan(start_s)
    who = np.tile(adapter[keep].astype(np.int16 if adapter.max(initial=0) < 2**15 else np.int32), 2)
    time = np.concatenate([start_s[keep], end_s[keep]])
    change = np.repeat([1, -1], np.count_nonzero(keep))
    order = np.argsort(time, kind="stable")  # a start stays before an end at the same time
    order = order[np.argsort(who[order], kind="stable")]  # radix sort of small integers
    who, time, change = who[order], time[order], change[order]
    inside = np.cumsum(change)  # every adapter's changes sum to 0, so the sum restarts with each
    crossing = ((change == 1) & (inside == 1)) | ((change == -1) & (inside == 0))
    crossing &= np.isfinite(time)
    return _Changes(time[crossing], who[crossing], change[crossing])


def _count(run: Run, sets: list[_Changes]) -> MetricSeries:
    steps = run.steps
    ends = np.linspace(0, run.window_s, _NUM_BINS + 1)[1:]
    if steps is None or not len(run.adapters) or not sum(len(s.time_s) for s in sets):
        return MetricSeries(np.zeros(_NUM_BINS), np.zeros(_NUM_BINS))
    keys = np.random.default_rng(_KEY_SEED).integers(0, 2**63, (len(sets), len(run.adapters)), dtype=np.uint64)
    time = np.concatenate([s.time_s for s in sets])
    order = np.argsort(time, kind="stable")
    key = np.concatenate([keys[i][s.adapter] for i, s in enumerate(sets)])[order]
    combination = np.bitwise_xor.accumulate(key)
    names = np.cumsum(np.concatenate([s.change for s in sets])[order])
    at = np.searchsorted(time[order], steps.start_s + steps.duration_s, side="right") - 1
    at = at[at >= 0]
    _, first = np.unique(combination[at], return_index=True)
    first.sort()
    seen_s = (steps.start_s + steps.duration_s)[-len(at) :][first]
    num = np.searchsorted(seen_s, ends, side="right")
    total_names = np.concatenate([[0], np.cumsum(names[at][first])])
    return MetricSeries(num.astype(np.float64), total_names[num].astype(np.float64))
