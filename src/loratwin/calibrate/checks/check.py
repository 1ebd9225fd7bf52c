"""Check a profile on its server: workloads that it has not seen (`loads`), predicted before they are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from loratwin.calibrate.checks.loads import Check
from loratwin.calibrate.checks.plausible import DRAWS, LEVEL, plausible_profiles
from loratwin.calibrate.regression.drift import reference_step_s
from loratwin.metrics import Summary, summarize
from loratwin.perf import Profile
from loratwin.records import Run
from loratwin.simulate import simulate

FIGURES = ("total_throughput", "itl_mean_ms", "ttft_mean_ms")
_AT_THE_END = 2


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
class CheckPrediction:
    """What is said of a check beforehand."""

    name: str
    figures: dict[str, Predicted]
    starved: bool
    chance_starved: float  # of the plausible profiles


@dataclass(frozen=True)
class CheckScore:
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
    """How predictions and measurements compare.

    Parameters
    ----------
    scores
        One for each check and figure.
    starved
        Verdicts: name of the check, predicted, measured in each repetition.
    machine
        Name of the check, and for each repetition how many times as long as in the calibration the reference load took.
    """

    scores: tuple[CheckScore, ...]
    starved: tuple[tuple[str, bool, tuple[bool, ...]], ...]
    machine: tuple[tuple[str, tuple[float, ...]], ...] = ()

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
        right = [predicted == seen for _, predicted, measured in self.starved for seen in measured]
        return sum(right), len(right)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else float("nan")


def predict_check(check: Check, profile: Profile, draws: int = DRAWS, seed: int = 0) -> CheckPrediction:
    """What the profile says of a check.

    Intervals are quantiles over plausible profiles (`plausible`). Throughput may miss or gain `_AT_THE_END` requests
    besides: which ones the window's end cuts off is a matter of milliseconds.

    Parameters
    ----------
    check
        Of `make_checks`.
    profile
        Which is checked.
    draws, seed
        Of plausible profiles.
    """
    fitted = _figures(check, profile)
    drawn = [_figures(check, one) for one in plausible_profiles(profile, draws, seed)]
    edges = (50 * (1 - LEVEL), 100 - 50 * (1 - LEVEL))
    figures = {}
    for name in FIGURES:
        low, high = np.nanpercentile([getattr(summary, name) for summary in drawn], edges)
        value = float(getattr(fitted, name))
        edge = _AT_THE_END * _request_tokens(check) / check.workload.window_s if name == "total_throughput" else 0.0
        figures[name] = Predicted(value, min(value, float(low)) - edge, max(value, float(high)) + edge)
    return CheckPrediction(check.name, figures, fitted.starved, fmean(summary.starved for summary in drawn))


def _request_tokens(check: Check) -> float:
    """Mean tokens of a request, prompt and output."""
    drawn = check.workload
    return float(drawn.prompt_tokens.mean() + drawn.output_tokens.mean())


def _figures(check: Check, profile: Profile) -> Summary:
    return summarize(simulate(check.workload, profile, check.config), percentiles=False)


def score_checks(
    predictions: Sequence[CheckPrediction], measured: Mapping[str, Sequence[Run]], profile: Profile | None = None
) -> Checked:
    """Compare predictions with the measurements of each check, in the order of the predictions.

    Parameters
    ----------
    predictions
        Of `predict_check`, made before anything was measured.
    measured
        By name of the check: its repetitions. A check without is left out.
    profile
        Which is checked: its card says how fast the machine was; None: that is not compared.
    """
    scores, starved = [], []
    for prediction in predictions:
        summaries = [summarize(run) for run in measured.get(prediction.name, ())]
        if not summaries:
            continue
        for name, predicted in prediction.figures.items():
            values = tuple(float(getattr(summary, name)) for summary in summaries)
            if np.isfinite([*values, predicted.value]).all():
                scores.append(CheckScore(prediction.name, name, predicted, values))
        starved.append((prediction.name, prediction.starved, tuple(summary.starved for summary in summaries)))
    machine = {name: _slower(runs, profile) for name, runs in measured.items()} if profile is not None else {}
    return Checked(
        tuple(scores), tuple(starved), tuple((name, factors) for name, factors in machine.items() if factors)
    )


def _slower(runs: Sequence[Run], profile: Profile) -> tuple[float, ...]:
    """How many times as long the runs' reference loads took as at the calibration; none where either is not known."""
    usual = profile.card.usual_reference
    if usual is None:
        return ()
    return tuple(
        run.reference.mean_s / (usual * reference_step_s(profile.step_time, run.config, profile.behaviour))
        for run in runs
        if run.reference is not None
    )
