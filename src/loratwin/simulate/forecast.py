"""Where the figures of a real run will lie, not where their mean is: prediction intervals of one server.

Three things make a measured run differ from the prediction: the workload that happens to come (the seed),
coefficients that are not known exactly (`Profile.sample`), and what no coefficient explains (the profile's held-out
errors). The first two are simulated together, one seed and one plausible profile for each run; the third is added to
them in quadrature, on a logarithmic scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from loratwin.errors import InputError
from loratwin.metrics import Slo, Summary
from loratwin.metrics.intervals import t_quantile
from loratwin.perf import Profile, Uncertainty
from loratwin.records import EngineConfig
from loratwin.simulate.chance import chance_kept, draw_of
from loratwin.simulate.outcome import Outcome, each_once, try_config
from loratwin.simulate.workers import Progress, Workers, silent
from loratwin.workload import Workload, WorkloadSpec, draw

FIGURES = (
    "total_throughput", "input_throughput", "output_throughput", "request_throughput",
    "ttft_mean_ms", "ttft_median_ms", "ttft_p90_ms", "ttft_p99_ms", "tpot_mean_ms", "itl_mean_ms", "itl_p99_ms",
    "e2e_mean_ms", "running_mean",
)  # fmt: skip
"""Figures of `metrics.Summary` that get an interval."""

SEEDS = range(10)
"""Ten runs give intervals that are themselves known to a quarter."""

LEVEL = 0.9

_STREAM = 20_260_224  # of the profiles that are drawn, apart from those of workloads


def plausible_profile(profile: Profile, number: int) -> Profile:
    """The so-manieth profile that is as plausible as this one; the same for the same number."""
    return profile.sample(np.random.default_rng([_STREAM, number]))


@dataclass(frozen=True)
class PredictionInterval:
    """Where one figure of one run will lie with probability `level`."""

    low: float
    middle: float  # geometric mean of the simulated runs
    high: float
    level: float
    spread: float  # standard deviation of the logarithm over seeds and plausible profiles
    model_error: float  # half-width of the profile's held-out errors alone, as log(measured / predicted)


@dataclass(frozen=True)
class Forecast:
    """What is known beforehand of one server."""

    intervals: dict[str, PredictionInterval]  # by figure; empty when the server starts in no run
    starts: float  # share of the runs in which it starts
    starved: float  # share of those in which it starves
    level: float
    notes: tuple[str, ...]
    chance: float = math.nan  # that a real run keeps every limit and does not starve; NaN: no limits were given

    def ends(self) -> dict[str, dict[str, float]]:
        """`low` and `high` of each figure."""
        return {name: {"low": interval.low, "high": interval.high} for name, interval in self.intervals.items()}

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        chance = {} if math.isnan(self.chance) else {"chance": self.chance}
        return {"level": self.level, "figures": self.ends(), **chance, "notes": list(self.notes)}


def forecast(
    workload: WorkloadSpec | Workload,
    profile: Profile,
    config: EngineConfig,
    seeds: Iterable[int] = SEEDS,
    level: float = LEVEL,
    *,
    served: Sequence[int] | None = None,
    slo: Slo | None = None,
    processes: int = 1,
    progress: Progress = silent,
) -> Forecast:
    """Simulate one server with several seeds, each on another plausible profile, and say where its figures will lie.

    Parameters
    ----------
    workload
        What is drawn of each seed; or requests that are known already, and then only the profile is drawn.
    seeds
        Of the workload and of the profile drawn with it.
    level
        Probability that a measured figure lies inside.
    served
        Adapters (indices) that this server serves; None: all of the workload.
    slo
        Limits whose chance to be kept is to be said.
    processes
        Cores to use; the result does not depend on it.

    Raises
    ------
    InputError
        No two seeds, a level outside of 0 to 1, or as `simulate`.
    """
    tasks = tuple(seeds)
    if len(tasks) < 2:
        raise InputError("a prediction interval needs two seeds or more")
    if not 0 < level < 1:
        raise InputError(f"level = {level:g}, but it must be between 0 and 1")
    with Workers(_PlausibleRun(workload, profile, config, served, slo), processes) as workers:
        outcomes = workers.map(tasks, progress)
    return forecast_of(outcomes, profile.uncertainty, level, slo)


@dataclass(frozen=True)
class _PlausibleRun:
    """Draw both workload and profile, and try; what goes to other processes."""

    workload: WorkloadSpec | Workload
    profile: Profile
    config: EngineConfig
    served: Sequence[int] | None
    slo: Slo | None

    def __call__(self, seed: int) -> Outcome:
        workload = draw(self.workload, seed) if isinstance(self.workload, WorkloadSpec) else self.workload
        if self.served is not None:
            workload = workload.take_adapters(self.served)
        return try_config(workload, plausible_profile(self.profile, seed), self.config, self.slo)


def forecast_of(
    outcomes: Sequence[Outcome], uncertainty: Uncertainty | None, level: float, slo: Slo | None
) -> Forecast:
    """Intervals from runs that differ in seed and plausible profile."""
    summaries = [outcome.summary for outcome in outcomes if outcome.summary is not None]
    notes = each_once(note for outcome in outcomes for note in outcome.notes)
    if uncertainty is None or not (uncertainty.residual or uncertainty.machine):
        notes += ("the profile states no held-out errors: intervals lack the model's own error",)
    ended = fmean(outcome.ended_share for outcome in outcomes)
    return Forecast(
        intervals=_intervals(summaries, ended, uncertainty, level),
        starts=len(summaries) / len(outcomes),
        starved=fmean(summary.starved for summary in summaries) if summaries else float("nan"),
        level=level,
        notes=notes,
        chance=math.nan if slo is None else _chance(outcomes, uncertainty, slo),
    )


def _chance(outcomes: Sequence[Outcome], uncertainty: Uncertainty | None, slo: Slo) -> float:
    """A run in which the server does not start keeps nothing."""
    return fmean(
        chance_kept([draw_of(seen.starved, seen.served_share, slo, outcome.slo_s)], uncertainty) if seen else 0.0
        for outcome in outcomes
        for seen in (outcome.summary,)
    )


def _intervals(
    summaries: Sequence[Summary], ended: float, uncertainty: Uncertainty | None, level: float
) -> dict[str, PredictionInterval]:
    known = uncertainty or Uncertainty(standard_errors={})
    shares = [summary.served_share for summary in summaries if math.isfinite(summary.served_share)]
    regime = known.regime(min(fmean(shares), ended) if shares else math.nan)
    beyond = known.error_beyond(fmean(summary.running_mean for summary in summaries), level) if summaries else 0.0
    intervals = {}
    for figure in FIGURES:
        values = [float(getattr(summary, figure)) for summary in summaries]
        values = [value for value in values if value > 0 and math.isfinite(value)]
        if len(values) >= 2:
            carried = (
                figure.endswith("throughput") and regime == "open"
            )  # as much as is asked for, whatever a step takes
            error = math.hypot(known.error(figure, regime, level), 0.0 if carried else beyond)
            intervals[figure] = _interval(values, error, level)
    return intervals


def _interval(values: Sequence[float], model_error: float, level: float) -> PredictionInterval:
    """Student's t for a further run of the same kind, and the model's error in quadrature."""
    logs = [math.log(value) for value in values]
    middle, spread, n = fmean(logs), stdev(logs), len(logs)
    simulated = t_quantile((1 + level) / 2, n - 1) * spread * math.sqrt(1 + 1 / n)
    half_width = math.hypot(simulated, model_error)
    return PredictionInterval(
        low=math.exp(middle - half_width),
        middle=math.exp(middle),
        high=math.exp(middle + half_width),
        level=level,
        spread=spread,
        model_error=model_error,
    )
