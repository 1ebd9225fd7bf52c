"""What a client measures of a simulated run: the engine's times seen through the front end (perf/frontend.py)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loratwin.kernel import adapter_combinations
from loratwin.metrics import itl_mean_s, tpot_s, ttft_s
from loratwin.metrics.latency import finished_only
from loratwin.metrics.percentiles import median
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
        ttft_median_s=median(ttft),
        tpot_mean_s=float(tpot.mean()) if len(tpot) else float("nan"),
        itl_mean_s=frontend.delivery_gap_s(itl_mean_s(done), stall),
    )


def _num_used(run: Run) -> int:
    used = np.unique(run.requests.adapter)
    return int(np.count_nonzero(used >= 0))


def metric_series(run: Run) -> MetricSeries:
    """Count the combinations of running and waiting adapters that the engine's steps showed.

    The measured delays lie halfway between those of the running sets alone and those of both sets: the mean is taken.
    """
    running, both = combinations(run)
    return MetricSeries((running.num_series + both.num_series) / 2, (running.num_names + both.num_names) / 2)


def combinations(run: Run) -> tuple[MetricSeries, MetricSeries]:
    """Of the running adapters alone, and of the running and the waiting ones.

    A combination counts once, when it is first seen at the end of a step: see `kernel.adapter_combinations`.
    """
    table, steps = run.requests, run.steps
    if steps is None or not len(run.adapters):
        return (MetricSeries(np.zeros(_NUM_BINS), np.zeros(_NUM_BINS)),) * 2
    end_s = steps.start_s + steps.duration_s
    running, both = adapter_combinations(
        end_s,
        table.arrival_s,
        table.first_token_s,
        np.where(table.finish_s <= run.window_s, table.finish_s, np.nan),
        np.where(table.refused, np.int32(-1), table.adapter),
        np.random.default_rng(_KEY_SEED).integers(0, 2**63, (2, len(run.adapters)), dtype=np.uint64),
    )
    return _up_to_parts(run, end_s, running), _up_to_parts(run, end_s, both)


def _up_to_parts(run: Run, end_s: F8, names: NDArray[np.int32]) -> MetricSeries:
    """What was new up to the end of each part."""
    parts_s = np.linspace(0, run.window_s, _NUM_BINS + 1)[1:]
    new = np.flatnonzero(names >= 0)
    num = np.searchsorted(end_s[new], parts_s, side="right")
    total_names = np.concatenate([[0], np.cumsum(names[new])])
    return MetricSeries(num.astype(np.float64), total_names[num].astype(np.float64))
