"""Find the operating point of a measured run: the step times that make the twin's TPOT the measured one.

A serving run gives averages, and what an average step costs depends on which steps there were (how many requests ran,
how many adapters, how much prefill), which again depends on the step times. So the twin is run with all step times
scaled by one factor until its TPOT is the measured one. Its steps are then those of the server, near enough, and their
mean duration and mean features are one row of a linear regression for the coefficients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.published.serving import ServingRun
from loratwin.calibrate.speed_factor import Search, Try, find_factor
from loratwin.kernel import StepFeatures
from loratwin.metrics import itl_mean_s, tpot_s, ttft_s
from loratwin.metrics.latency import finished_only
from loratwin.perf import Profile
from loratwin.records import Run, StepSeries
from loratwin.simulate import simulate
from loratwin.simulate.observe import metric_series

F8 = NDArray[np.float64]

_SEARCH = Search(close=0.002, most_tries=6, most_step=0.3)  # of TPOT
_ACCEPTED = 0.03
_SAMPLE = 2000  # steps kept of each run, drawn with the number of tokens that they emit as weight


@dataclass(frozen=True)
class Match:
    """A measured run at the twin's operating point."""

    run: ServingRun
    factor: float  # step times of the model x this give the measured TPOT
    residual: float  # log of simulated / measured TPOT that is left
    step_s: float  # mean duration of a step, weighted by the tokens that it emits
    swap_s: float  # of it, bringing adapters into slots
    sample: StepFeatures  # of steps, each as likely as a decoded token is to fall into it; shape (_SAMPLE,)
    itl_s: float  # the engine's, at the match
    tpot_s: float
    ttft_mean_s: float  # the engine's
    ttft_median_s: float
    num_series: F8  # see simulate/observe.py
    num_names: F8

    @property
    def usable(self) -> bool:
        """False when no factor brought the twin near the measurement."""
        return abs(self.residual) < _ACCEPTED


def match(run: ServingRun, profile: Profile, seed: int = 0) -> Match:
    """Match one measured run, with the KV capacity that was measured."""
    target = run.figure("tpot_mean_ms") / 1e3

    def serve(factor: float) -> tuple[Run, float]:
        twin = _simulate(run, profile, factor, seed)
        return twin, math.log(_mean_tpot_s(twin) / target)

    first_slope = 2.0 if run.figure("waiting_mean") < 20 else 1.2
    return _summarise(run, profile, find_factor(serve, _SEARCH, first_slope))


def _simulate(run: ServingRun, profile: Profile, factor: float, seed: int) -> Run:
    scaled = profile.model_copy(update={"step_time": profile.step_time.scaled(factor)})
    workload = run.workload(profile.frontend.generated_share, seed)
    return simulate(workload, scaled, run.config, kv_tokens=int(run.figure("kv_tokens")))


def _mean_tpot_s(run: Run) -> float:
    return float(np.nanmean(tpot_s(finished_only(run))))


def _summarise(run: ServingRun, profile: Profile, best: Try[Run]) -> Match:
    simulated, steps = best.twin, best.twin.steps
    assert steps is not None
    weights = steps.decode_requests / steps.decode_requests.sum()
    chosen = np.random.default_rng(1).choice(len(weights), _SAMPLE, p=weights)
    swap_in_s = profile.loading.costs(simulated.adapters.rank, run.max_lora_rank).swap_in_s.mean()
    done = finished_only(simulated)
    ttft = ttft_s(done, side="engine")
    series = metric_series(simulated)
    return Match(
        run=run,
        factor=best.factor,
        residual=best.residual,
        step_s=float(weights @ steps.duration_s),
        swap_s=float(weights @ steps.swap_ins) * float(swap_in_s),
        sample=_sample(steps, chosen),
        itl_s=itl_mean_s(done),
        tpot_s=_mean_tpot_s(simulated),
        ttft_mean_s=float(ttft.mean()),
        ttft_median_s=float(np.median(ttft)),
        num_series=series.mean_over_parts()[0],
        num_names=series.mean_over_parts()[1],
    )


def _sample(steps: StepSeries, chosen: NDArray[np.int64]) -> StepFeatures:
    """These steps; all requests of the measurements use an adapter."""
    return StepFeatures(
        decode_requests=steps.decode_requests[chosen],
        prefill_tokens=steps.prefill_tokens[chosen],
        decode_context=_there(steps.decode_context)[chosen],
        prefill_context=_there(steps.prefill_context)[chosen],
        distinct_adapters=steps.distinct_adapters[chosen],
        lora_decode_requests=steps.decode_requests[chosen],
        lora_prefill_tokens=steps.prefill_tokens[chosen],
        waiting=steps.waiting[chosen],
        skipped=_there(steps.skipped)[chosen],
        running=steps.running[chosen],
    )


def _there(column: NDArray[Any] | None) -> NDArray[Any]:
    """The twin leaves no column out."""
    assert column is not None
    return column
