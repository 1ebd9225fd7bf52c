"""Is the stated chance what comes true? Of held-out runs, and many limits for each.

A run is predicted as a plan predicts it: by the figures of `metrics.Summary`, with draws of seed and coefficients, on
the profile fitted without the run's workload, and with the errors that the other workloads were predicted with. What
was measured says whether it kept a limit and did not starve. Beside the chance stands the verdict, which one run gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from loratwin.calibrate.published.fit import SERVING_FILES, TablesFit
from loratwin.calibrate.published.serving import ServingRun, read_serving
from loratwin.errors import CapacityError
from loratwin.metrics import STARVED_RATIO, Limit, Slo, summarize
from loratwin.perf import Profile, Uncertainty
from loratwin.perf.uncertainty import PROBABILITIES, Regime, SignedQuantiles
from loratwin.simulate import Draw, chance_kept, plausible_profile, simulate, simulated_slo
from loratwin.simulate.workers import Workers
from loratwin.validate.predict import offered_tokens_per_s
from loratwin.validate.scores import is_starved, measured_value

FIGURES = (
    "ttft_mean_ms", "ttft_median_ms", "ttft_p99_ms", "tpot_mean_ms", "tpot_p99_ms", "itl_mean_ms", "itl_p99_ms",
)  # fmt: skip
"""Latencies that were measured and that a limit can be on."""

SHARE = "served_share"

DRAWS = 4
"""Pairs of seed and plausible profile for each run, besides the profile itself."""

LIMITS = tuple(0.1 * i for i in range(1, 10))
"""Quantiles of what was measured that serve as limits: once of all runs, once of those that did not starve."""

EDGE = 0.8
"""Predicted share of the tokens below which a server starves beyond doubt: errors there are larger, and of no use."""

_FEWEST = 10
"""Runs below which a quantile says nothing."""

Progress = Callable[[str, int, int], None]


class HeldOut(NamedTuple):
    """A measured run and what a plan would have said of it."""

    run: ServingRun
    figures: Mapping[str, float]  # of the profile itself
    draws: tuple[Mapping[str, float], ...]

    @property
    def regime(self) -> Regime:
        """As predicted."""
        return Uncertainty.regime(self.figures[SHARE])


class Statement(NamedTuple):
    """A chance that was stated, and what came true."""

    figure: str  # the limit's; "" for starvation alone
    chance: float
    kept: bool


@dataclass(frozen=True)
class Judged:
    """How often verdicts on limits on one figure came true."""

    figure: str
    number: int
    right_share: float
    false_kept_share: float  # said kept, and it was not
    false_missed_share: float  # said missed, and it was kept


@dataclass(frozen=True)
class Tenth:
    """Statements whose chance lies in the same tenth."""

    low: float
    high: float
    number: int
    stated: float  # mean chance
    kept: float  # share that was kept


def predict_draws(
    folder: Path, fits: Mapping[str, TablesFit], processes: int, progress: Progress, draws: int = DRAWS
) -> list[HeldOut]:
    """Every measured run that was predicted to start, on the profile fitted without its workload."""
    runs = [run for name in SERVING_FILES for run in read_serving(folder / name) if run.measured]
    predictions: list[HeldOut | None] = []
    for llm, fit in fits.items():
        errors = fit.uncertainty()
        for group in fit.groups:
            held_out = [run for run in runs if run.model == llm and run.group == group]
            held_out.sort(key=lambda run: run.served_adapters)
            profile = fit.without(group).model_copy(update={"uncertainty": errors})
            predictions += _predict_group(
                held_out, profile, draws, processes, partial(progress, f"{llm}: draws for {group}")
            )
    return [prediction for prediction in predictions if prediction is not None]


def _predict_group(
    runs: Sequence[ServingRun], profile: Profile, draws: int, processes: int, progress: Callable[[int, int], None]
) -> list[HeldOut | None]:
    with Workers(partial(_predicted, profile, draws), processes) as workers:
        return workers.map(runs, lambda done: progress(done, len(runs)))


def _predicted(profile: Profile, draws: int, run: ServingRun) -> HeldOut | None:
    try:
        figures, *draws_figures = [_figures(run, profile, number) for number in range(draws + 1)]
    except CapacityError:
        return None
    return HeldOut(run, figures, tuple(draws_figures))


def _figures(run: ServingRun, profile: Profile, number: int) -> dict[str, float]:
    """Of the profile itself for number 0, else of the so-manieth plausible one, each with the seed of that number."""
    plausible = plausible_profile(profile, number) if number else profile
    summary = summarize(simulate(run.workload(profile.frontend.generated_share, number), plausible, run.config))
    return {name: float(getattr(summary, name)) for name in (*FIGURES, SHARE)}


def signed_errors(held_out: Sequence[HeldOut]) -> dict[Regime, dict[str, SignedQuantiles]]:
    """Quantiles of log(measured / predicted), by predicted regime and figure; left out where runs are too few."""
    by_regime: dict[Regime, dict[str, SignedQuantiles]] = {}
    for prediction in held_out:
        by_regime.setdefault(prediction.regime, {})
    for regime, quantiles in by_regime.items():
        same = [prediction for prediction in held_out if prediction.regime == regime]
        for figure in (*FIGURES, SHARE):
            errors = [error for prediction in same if math.isfinite(error := _error(prediction, figure))]
            if len(errors) >= _FEWEST:
                quantiles[figure] = tuple(round(float(q), 4) for q in np.quantile(errors, PROBABILITIES))
    return dict(sorted(by_regime.items()))


def _error(prediction: HeldOut, figure: str) -> float:
    """log(measured / predicted); NaN where one is missing, or the figure is of no concern."""
    measured, predicted = _measured(prediction.run, figure), prediction.figures[figure]
    if figure == SHARE and predicted < EDGE:
        return math.nan
    return math.log(measured / predicted) if measured > 0 < predicted else math.nan


def _measured(run: ServingRun, figure: str) -> float:
    if figure == SHARE:
        return measured_value(run, "total_throughput") / offered_tokens_per_s(run)
    return run.figure(figure)


def statements(held_out: Sequence[HeldOut]) -> list[Statement]:
    """The chance of every limit for every run."""
    return [
        stated for prediction, limits, known in _with_errors(held_out) for stated in _stated(prediction, limits, known)
    ]


def verdicts(held_out: Sequence[HeldOut], corrected: bool = True) -> list[Statement]:
    """The same limits as a plan judges them from one simulated run: a chance of 1, kept, or 0.

    Parameters
    ----------
    corrected
        A percentile as real runs have it (`loratwin.simulate.verdict`), else as the twin has it.
    """
    return [
        verdict
        for prediction, limits, known in _with_errors(held_out)
        for verdict in _verdicts(prediction, limits, known if corrected else None)
    ]


_Limits = Sequence[tuple[str, float]]
"""Figure and limit, in milliseconds."""


def _with_errors(held_out: Sequence[HeldOut]) -> Iterator[tuple[HeldOut, _Limits, Uncertainty]]:
    """Every run with limits for it and the errors of other workloads of the same LLM alone."""
    for llm in sorted({prediction.run.model for prediction in held_out}):
        same = [prediction for prediction in held_out if prediction.run.model == llm]
        limits = _limits(same)
        for group in sorted({prediction.run.group for prediction in same}):
            errors = signed_errors([prediction for prediction in same if prediction.run.group != group])
            known = Uncertainty(standard_errors={}, errors=errors)
            yield from ((prediction, limits, known) for prediction in same if prediction.run.group == group)


def _limits(held_out: Sequence[HeldOut]) -> _Limits:
    runs = [prediction.run for prediction in held_out]
    kept_up = [run for run in runs if not is_starved(run)]
    return [
        (figure, float(limit))
        for figure in FIGURES
        for some in (runs, kept_up)
        if (known := [value for run in some if math.isfinite(value := run.figure(figure))])
        for limit in np.quantile(known, LIMITS)
    ]


def _stated(prediction: HeldOut, limits: _Limits, known: Uncertainty) -> Iterator[Statement]:
    keeps_up = not is_starved(prediction.run)
    yield Statement("", chance_kept([_draw(figures) for figures in prediction.draws], known), keeps_up)
    for figure, limit in limits:
        if math.isnan(prediction.run.figure(figure)):
            continue
        drawn = [_draw(figures, figure, limit) for figures in prediction.draws]
        yield Statement(figure, chance_kept(drawn, known), keeps_up and prediction.run.figure(figure) <= limit)


def _verdicts(prediction: HeldOut, limits: _Limits, known: Uncertainty | None) -> Iterator[Statement]:
    keeps_up, share = not is_starved(prediction.run), prediction.figures[SHARE]
    for figure, limit_ms in limits:
        if math.isnan(prediction.run.figure(figure)):
            continue
        (held_to,) = simulated_slo(Slo((_as_limit(figure, limit_ms),)), share, known).limits
        says_kept = share > STARVED_RATIO and prediction.figures[figure] <= 1e3 * held_to.limit_s
        yield Statement(figure, float(says_kept), keeps_up and prediction.run.figure(figure) <= limit_ms)


def _as_limit(figure: str, limit_ms: float) -> Limit:
    metric, statistic, _ = figure.split("_")
    return Limit(metric, "p50" if statistic == "median" else statistic, limit_ms / 1e3)


def judged(said: Sequence[Statement]) -> list[Judged]:
    """How often verdicts were right, by figure."""
    return [_judged(figure, [statement for statement in said if statement.figure == figure]) for figure in FIGURES]


def _judged(figure: str, said: Sequence[Statement]) -> Judged:
    wrong_kept = sum(statement.chance > statement.kept for statement in said)
    wrong_missed = sum(statement.chance < statement.kept for statement in said)
    number = max(1, len(said))
    right = 1 - (wrong_kept + wrong_missed) / number
    return Judged(figure, len(said), right, wrong_kept / number, wrong_missed / number)


def _draw(figures: Mapping[str, float], figure: str = "", limit: float = math.inf) -> Draw:
    """What was measured knows starvation by throughput alone, which the served share says."""
    slack = {figure: math.log(limit / figures[figure]) if figures[figure] > 0 else -math.inf} if figure else {}
    return Draw(False, figures[SHARE], slack)


def reliability(stated: Sequence[Statement], parts: int = 10) -> list[Tenth]:
    """What came true, by tenths of the stated chance; empty ones are left out."""
    rows = []
    for i in range(parts):
        low, high = i / parts, (i + 1) / parts
        inside = [
            statement
            for statement in stated
            if low <= statement.chance < high or (statement.chance == 1 and i == parts - 1)
        ]
        if inside:
            rows.append(_tenth(low, high, inside))
    return rows


def _tenth(low: float, high: float, inside: Sequence[Statement]) -> Tenth:
    return Tenth(
        low,
        high,
        len(inside),
        float(np.mean([statement.chance for statement in inside])),
        float(np.mean([statement.kept for statement in inside])),
    )


def around(stated: Sequence[Statement], chance: float = 0.9, width: float = 0.05) -> Tenth | None:
    """What came true of those whose chance is about so large; None: there are none."""
    inside = [statement for statement in stated if abs(statement.chance - chance) <= width]
    return _tenth(chance - width, chance + width, inside) if inside else None


def brier(stated: Sequence[Statement]) -> float:
    """Mean square of chance - outcome (1 kept, 0 not): 0 is clairvoyant, 0.25 what a coin would have."""
    return float(np.mean([(statement.chance - statement.kept) ** 2 for statement in stated]))
