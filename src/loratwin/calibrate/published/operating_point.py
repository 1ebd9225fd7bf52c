"""Find the operating point of a measured run: the step times that make the twin's TPOT the measured one.

A serving run gives averages, and what an average step costs depends on which steps there were (how many requests ran,
how many adapters, how much prefill), which again depends on the step times. So the twin is run with all step times
scaled by one factor until its TPOT is the measured one. Its steps are then those of the server, near enough, and their
mean duration and mean features are one row of a linear regression for the coefficients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.published.serving import ServingRun
from loratwin.metrics import itl_mean_s, tpot_s, ttft_s
from loratwin.metrics.latency import finished_only
from loratwin.perf import Profile
from loratwin.records import Run
from loratwin.simulate import simulate
from loratwin.simulate.observe import metric_series

F8 = NDArray[np.float64]

_MAX_TRIES = 6
_CLOSE = 0.002  # of TPOT, relative
_ACCEPTED = 0.03
_SAMPLE = 2000  # steps kept of each run, drawn with the number of tokens that they emit as weight


@dataclass(frozen=True)
class StepSample:
    """Steps of the matched run, each as likely as a decoded token is to fall into it. Arrays of shape (_SAMPLE,)."""

    decode_requests: F8
    prefill_tokens: F8
    running: F8
    skipped: F8
    distinct_adapters: F8
    decode_context: F8
    prefill_context: F8


@dataclass(frozen=True)
class Match:
    """A measured run at the twin's operating point."""

    run: ServingRun
    factor: float  # step times of the model x this give the measured TPOT
    residual: float  # log of simulated / measured TPOT that is left
    step_s: float  # mean duration of a step, weighted by the tokens that it emits
    swap_s: float  # of it, bringing adapters into slots
    sample: StepSample
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
    tries: list[tuple[float, float]] = []  # log factor, log error
    best: tuple[float, float, Run] | None = None
    position = 0.0
    while len(tries) < _MAX_TRIES:
        simulated = _simulate(run, profile, math.exp(position), seed)
        error = math.log(_mean_tpot_s(simulated) / target)
        tries.append((position, error))
        if best is None or abs(error) < abs(best[0]):
            best = (error, position, simulated)
        if abs(error) < _CLOSE:
            break
        position -= min(0.3, max(-0.3, error / _slope(tries, run)))
    assert best is not None
    return _summarise(run, profile, *best)


def _slope(tries: list[tuple[float, float]], run: ServingRun) -> float:
    """Change of log TPOT with the log factor: secant, within what is plausible."""
    if len(tries) < 2 or tries[-1][0] == tries[-2][0]:
        return 2.0 if run.figure("waiting_mean") < 20 else 1.2
    (x0, y0), (x1, y1) = tries[-2:]
    return min(8.0, max(0.5, (y1 - y0) / (x1 - x0)))


def _simulate(run: ServingRun, profile: Profile, factor: float, seed: int) -> Run:
    scaled = profile.model_copy(update={"step_time": profile.step_time.scaled(factor)})
    workload = run.workload(profile.frontend.generated_share, seed)
    return simulate(workload, scaled, run.config, kv_tokens=int(run.figure("kv_tokens")))


def _mean_tpot_s(run: Run) -> float:
    return float(np.nanmean(tpot_s(finished_only(run))))


def _summarise(run: ServingRun, profile: Profile, error: float, position: float, simulated: Run) -> Match:
    steps = simulated.steps
    assert steps is not None and steps.skipped is not None
    assert steps.decode_context is not None and steps.prefill_context is not None
    weights = steps.decode_requests / steps.decode_requests.sum()
    chosen = np.random.default_rng(1).choice(len(weights), _SAMPLE, p=weights)
    columns = (
        steps.decode_requests,
        steps.prefill_tokens,
        steps.running,
        steps.skipped,
        steps.distinct_adapters,
        steps.decode_context,
        steps.prefill_context,
    )
    swap_in_s = profile.loading.costs(simulated.adapters.rank, run.max_lora_rank).swap_in_s.mean()
    done = finished_only(simulated)
    ttft = ttft_s(done, side="engine")
    series = metric_series(simulated)
    return Match(
        run=run,
        factor=math.exp(position),
        residual=error,
        step_s=float(weights @ steps.duration_s),
        swap_s=float(weights @ steps.swap_ins) * float(swap_in_s),
        sample=StepSample(*(column[chosen].astype(np.float64) for column in columns)),
        itl_s=itl_mean_s(done),
        tpot_s=_mean_tpot_s(simulated),
        ttft_mean_s=float(ttft.mean()),
        ttft_median_s=float(np.median(ttft)),
        num_series=series.mean_over_parts()[0],
        num_names=series.mean_over_parts()[1],
    )
