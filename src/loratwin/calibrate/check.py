"""Check a profile on its server: workloads that it has not seen, predicted before they are measured.

For each number of slots: a server that keeps up, one near saturation, one overloaded, and one with bursts. Rates are
parts of what the twin says that the server can carry; lengths and popularity are others than those of the calibration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import numpy as np

from loratwin.errors import InputError
from loratwin.metrics import Summary, summarize
from loratwin.perf import Profile
from loratwin.records import EngineConfig, Run
from loratwin.simulate import simulate
from loratwin.workload import Adapters, Workload, WorkloadSpec, draw, parse_spec

FIGURES = ("total_throughput", "itl_mean_ms", "ttft_mean_ms")
LEVEL = 0.9
DRAWS = 24
"""Plausible profiles that an interval is made of."""

KINDS: dict[str, tuple[float, dict[str, object], float]] = {
    # name: (part of the capacity, arrivals, exponent of a zipf popularity; 0: equal)
    "open": (0.5, {"kind": "poisson"}, 0.0),
    "near": (0.75, {"kind": "poisson"}, 0.6),
    "over": (1.5, {"kind": "poisson"}, 0.0),
    "bursts": (0.45, {"kind": "on_off", "on_s": 1.0, "off_s": 1.5}, 0.6),
}

_PROMPTS = {"kind": "lognormal", "mean": 48, "std": 30, "min": 4, "max": 200}
_OUTPUTS = {"kind": "lognormal", "mean": 18, "std": 9, "min": 2, "max": 60}
_PROBE_S = 10.0
_AT_THE_END = 2


@dataclass(frozen=True)
class Check:
    """A workload for a server, not measured yet."""

    name: str
    config: EngineConfig
    workload: Workload


@dataclass(frozen=True)
class Predicted:
    """A figure: what the fitted profile says, and where a measurement will lie with probability LEVEL."""

    value: float
    low: float
    high: float

    def holds(self, measured: float) -> bool:
        """Whether a measured value is inside."""
        return self.low <= measured <= self.high


@dataclass(frozen=True)
class Prediction:
    """What is said of a check beforehand."""

    name: str
    figures: dict[str, Predicted]
    starved: bool
    chance_starved: float  # of the plausible profiles


@dataclass(frozen=True)
class Score:
    """One figure of one check: predicted, measured (each repetition), error of the prediction."""

    check: str
    figure: str
    predicted: Predicted
    measured: tuple[float, ...]

    @property
    def error(self) -> float:
        """(Predicted - measured) / measured, of the mean of the repetitions."""
        mean = fmean(self.measured)
        return (self.predicted.value - mean) / mean

    @property
    def noise(self) -> float:
        """Mean distance of the repetitions from their mean, relative; NaN with one."""
        if len(self.measured) < 2:
            return float("nan")
        mean = fmean(self.measured)
        return fmean(abs(value - mean) for value in self.measured) / mean

    @property
    def covered(self) -> float:
        """Share of the repetitions inside the interval."""
        return fmean(self.predicted.holds(value) for value in self.measured)


@dataclass(frozen=True)
class Checked:
    """All scores, and the verdicts on starvation: (check, predicted, measured in each repetition)."""

    scores: tuple[Score, ...]
    starved: tuple[tuple[str, bool, tuple[bool, ...]], ...]

    def mean_error(self, figure: str) -> float:
        """Mean of |error| over the checks."""
        return _mean([abs(score.error) for score in self.scores if score.figure == figure])

    def mean_noise(self, figure: str) -> float:
        """Mean noise over the checks."""
        return _mean([score.noise for score in self.scores if score.figure == figure])

    def coverage(self, figure: str) -> float:
        """Share of the measurements inside the intervals."""
        return _mean([score.covered for score in self.scores if score.figure == figure])

    @property
    def verdicts_right(self) -> tuple[int, int]:
        """Measurements in which starved or not was as predicted, of how many."""
        right = [said == seen for _, said, each in self.starved for seen in each]
        return sum(right), len(right)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else float("nan")


def make_checks(
    profile: Profile, config: EngineConfig, slots: Sequence[int], adapters: Adapters, window_s: float, seed: int = 1
) -> list[Check]:
    """The workloads for each number of slots, four each; `config` says the rest of the server.

    Raises
    ------
    InputError
        The twin carries nothing on such a server.
    """
    checks = []
    for number in slots:
        cache = max(number, len(adapters))
        server = config.replace(max_loras=number, max_cpu_loras=cache)
        carried = _capacity(profile, server, adapters)
        for i, (kind, (part, arrivals, exponent)) in enumerate(KINDS.items()):
            spec = _spec(adapters, part * carried, arrivals, exponent, window_s)
            checks.append(Check(f"{kind}-{number}", server, draw(spec, seed + i)))
    return checks


def _spec(
    adapters: Adapters, total_rate: float, arrivals: dict[str, object], exponent: float, window_s: float
) -> WorkloadSpec:
    popularity = {"kind": "zipf", "exponent": exponent} if exponent else {"kind": "equal"}
    group = {
        "name": "adapters", "count": len(adapters), "names": list(adapters.name), "ranks": adapters.rank.tolist(),
        "total_rate": total_rate, "popularity": popularity, "arrivals": arrivals,
    }  # fmt: skip
    return parse_spec({"window_s": window_s, "lengths": {"prompt": _PROMPTS, "output": _OUTPUTS}, "groups": [group]})


def _capacity(profile: Profile, config: EngineConfig, adapters: Adapters) -> float:
    """Requests per second that the twin finishes when it is offered ever more: what it carries."""
    rate = 4.0
    while rate < 1e5:
        spec = _spec(adapters, rate, {"kind": "poisson"}, 0.0, _PROBE_S)
        summary = summarize(simulate(draw(spec, 0), profile, config), percentiles=False)
        if summary.served_share < 0.6:
            return summary.request_throughput
        rate *= 2
    raise InputError(
        "the twin is never saturated by these workloads: the profile's step times are too small to be true"
    )


def predict(check: Check, profile: Profile, draws: int = DRAWS, seed: int = 0) -> Prediction:
    """What the profile says of a check.

    Intervals are quantiles over plausible profiles: coefficients within their errors, and all step times and overheads
    times a common lognormal factor, since the machine as a whole is faster at one time than at another. That factor
    spreads so that LEVEL of the runs that were not fitted lie within LEVEL of it (the profile's residual). Throughput
    may miss or gain `_AT_THE_END` requests besides: which ones the window's end cuts off is a matter of milliseconds.
    """
    known = profile.uncertainty
    spread = known.error("itl_mean_ms", "open", LEVEL) / NormalDist().inv_cdf((1 + LEVEL) / 2) if known else 0.0
    rng = np.random.default_rng(seed)
    fitted = _figures(check, profile)
    drawn = [_figures(check, _plausible(profile, spread, rng)) for _ in range(draws)]
    edges = (50 * (1 - LEVEL), 100 - 50 * (1 - LEVEL))
    figures = {}
    for name in FIGURES:
        low, high = np.nanpercentile([getattr(each, name) for each in drawn], edges)
        value = float(getattr(fitted, name))
        edge = _AT_THE_END * _request_tokens(check) / check.workload.window_s if name == "total_throughput" else 0.0
        figures[name] = Predicted(value, min(value, float(low)) - edge, max(value, float(high)) + edge)
    return Prediction(check.name, figures, fitted.starved, fmean(each.starved for each in drawn))


def _request_tokens(check: Check) -> float:
    """Mean tokens of a request, prompt and output."""
    drawn = check.workload
    return float(drawn.prompt_tokens.mean() + drawn.output_tokens.mean())


def _plausible(profile: Profile, spread: float, rng: np.random.Generator) -> Profile:
    one, factor = profile.sample(rng), float(np.exp(spread * rng.standard_normal()))
    frontend = one.frontend.model_copy(update={"overhead_s": one.frontend.overhead_s * factor})
    return one.model_copy(update={"step_time": one.step_time.scaled(factor), "frontend": frontend})


def _figures(check: Check, profile: Profile) -> Summary:
    return summarize(simulate(check.workload, profile, check.config), percentiles=False)


def score(predictions: Sequence[Prediction], measured: Mapping[str, Sequence[Run]]) -> Checked:
    """Compare predictions with the measurements of each check, in the order of the predictions."""
    scores, starved = [], []
    for prediction in predictions:
        summaries = [summarize(run, percentiles=False) for run in measured.get(prediction.name, ())]
        if not summaries:
            continue
        for name, predicted in prediction.figures.items():
            values = tuple(float(getattr(each, name)) for each in summaries)
            if np.isfinite([*values, predicted.value]).all():
                scores.append(Score(prediction.name, name, predicted, values))
        starved.append((prediction.name, prediction.starved, tuple(each.starved for each in summaries)))
    return Checked(tuple(scores), tuple(starved))
