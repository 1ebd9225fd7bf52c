"""How much a profile gains from serving runs: held-out errors with micro measurements alone, and with a few runs more.

The LLM's workloads are dealt into sets. Each set is held out in turn: serving runs are drawn from the other workloads,
a profile is fitted to the micro measurements and to them, and runs of the set are predicted from their configuration.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from loratwin.calibrate.published.fit import fit_tables, read_runs
from loratwin.calibrate.published.serving import ServingRun
from loratwin.calibrate.published.start import SHAPES
from loratwin.errors import DataError, InputError
from loratwin.records import check_writable
from loratwin.records.plain import as_plain
from loratwin.simulate.workers import Workers
from loratwin.validate.predict import Prediction, predict_all
from loratwin.validate.scores import ErrorScore, score, starved_verdicts

Progress = Callable[[str, int, int], None]

METRICS = {
    "total_throughput": "throughput",
    "itl_mean_ms": "ITL, mean",
    "tpot_mean_ms": "TPOT, mean",
    "ttft_mean_ms": "TTFT, mean",
    "ttft_median_ms": "TTFT, median",
}
REGIMES = ("all", "open", "saturated")


@dataclass(frozen=True)
class CurvePlan:
    """What is drawn; the same plan on the same data gives the same curve.

    Raises
    ------
    InputError
        A number is out of its range.
    """

    sizes: tuple[int, ...] = (0, 5, 10, 20, 40)  # serving runs beside the micro measurements
    draws: int = 3  # of the serving runs, for each held-out set
    sets: int = 3  # that the workloads are dealt into
    sample: int = 40  # runs of a held-out set that are predicted
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 0 or list(self.sizes) != sorted(set(self.sizes)):
            raise InputError(f"serving runs {self.sizes}: must be numbers from 0 on, each larger than the one before")
        if self.sets < 2:
            raise InputError(f"held-out sets: {self.sets}; at least 2, so that each leaves workloads to learn from")
        if min(self.draws, self.sample) < 1:
            raise InputError(f"draws {self.draws} and sample {self.sample}: must be at least 1")


@dataclass(frozen=True)
class HeldOutFit:
    """One fit and what it is asked."""

    model: str
    held_out: tuple[str, ...]  # workloads
    draw: int
    evidence: tuple[ServingRun, ...]
    asked: tuple[ServingRun, ...]  # of held-out workloads, the same for all fits of this set


@dataclass(frozen=True)
class CurveScore:
    """Errors of one LLM, number of serving runs, metric and regime, in per cent; means over the draws."""

    model: str
    serving_runs: int
    metric: str
    regime: str
    predicted: int  # runs that a draw's errors are of, over all held-out sets
    mape: float
    mape_min: float  # over the draws
    mape_max: float
    median_ape: float
    bias: float


@dataclass(frozen=True)
class CurveVerdicts:
    """Wrong verdicts on starvation, means over the draws."""

    model: str
    serving_runs: int
    predicted: int
    starved: int  # as measured
    missed: float
    false_alarms: float


@dataclass(frozen=True)
class Curve:
    """Fits with their held-out predictions, and their scores."""

    plan: CurvePlan
    folds: tuple[HeldOutFit, ...]
    predictions: tuple[tuple[Prediction, ...], ...]  # of each fold, for each run that it was asked

    @property
    def models(self) -> list[str]:
        return sorted({fold.model for fold in self.folds})

    def held_out(self, model: str) -> list[tuple[str, ...]]:
        """The sets of workloads that were held out in turn."""
        return sorted({fold.held_out for fold in self.folds if fold.model == model})

    def scores(self) -> list[CurveScore]:
        """Scores of every LLM and number of serving runs, by metric and regime."""
        return [
            _over_draws(model, size, [score(*pairs, tuple(METRICS)) for pairs in self._by_draw(model, size)], key)
            for model in self.models
            for size in self.plan.sizes
            for key in [(metric, regime) for metric in METRICS for regime in REGIMES]
        ]

    def verdicts(self) -> list[CurveVerdicts]:
        """Wrong verdicts on starvation of every LLM and number of serving runs."""
        rows = []
        for model in self.models:
            for size in self.plan.sizes:
                all_draws = [starved_verdicts(*pairs) for pairs in self._by_draw(model, size)]
                first = all_draws[0]
                starved, clear = first.both_yes + first.missed, first.both_no + first.false_alarm
                missed, alarms = ([getattr(v, name) for v in all_draws] for name in ("missed", "false_alarm"))
                rows.append(
                    CurveVerdicts(model, size, starved + clear, starved, float(np.mean(missed)), float(np.mean(alarms)))
                )
        return rows

    def _by_draw(self, model: str, size: int) -> list[tuple[list[ServingRun], list[Prediction]]]:
        """For each draw the runs of all held-out sets and their predictions."""
        draws: dict[int, tuple[list[ServingRun], list[Prediction]]] = {}
        for fold, predictions in zip(self.folds, self.predictions, strict=True):
            if (fold.model, len(fold.evidence)) == (model, size):
                runs, predicted = draws.setdefault(fold.draw, ([], []))
                runs += fold.asked
                predicted += predictions
        return list(draws.values())


def _over_draws(model: str, size: int, draws: Sequence[Sequence[ErrorScore]], key: tuple[str, str]) -> CurveScore:
    of_key = [s for scores in draws for s in scores if (s.metric, s.regime) == key]
    if not of_key:
        return CurveScore(model, size, *key, 0, *[math.nan] * 5)
    mapes = [s.mape for s in of_key]
    medians, biases = [s.median_ape for s in of_key], [s.bias for s in of_key]
    means = [float(np.mean(values)) for values in (medians, biases)]
    return CurveScore(model, size, *key, of_key[0].runs, float(np.mean(mapes)), min(mapes), max(mapes), *means)


def learning_curve(folder: Path, plan: CurvePlan, processes: int, progress: Progress) -> Curve:
    """Fit and predict every fold; the result does not depend on the number of processes.

    Raises
    ------
    InputError, DataError
        A table is missing or damaged, or an LLM has too few workloads or runs for the plan.
    """
    runs_of = {llm.name: read_runs(folder, llm.name) for llm in SHAPES}
    folds = [fold for model, runs in runs_of.items() if runs for fold in folds_of(model, runs, plan)]
    if not folds:
        raise DataError(f"{folder}: no completed serving run of {' or '.join(runs_of)}")
    with Workers(partial(_predicted, folder), processes) as workers:
        predictions = workers.map(folds, lambda done: progress("fits and their predictions", done, len(folds)))
    return Curve(plan, tuple(folds), tuple(predictions))


def folds_of(model: str, runs: Sequence[ServingRun], plan: CurvePlan) -> list[HeldOutFit]:
    """All fits of one LLM. Within a draw more runs are the fewer and others, so that a point differs by what was added.

    Raises
    ------
    DataError
        Too few workloads for the sets, or too few runs outside a set for the largest size.
    """
    groups = sorted({run.group for run in runs})
    if len(groups) < plan.sets:
        raise DataError(f"{model}: {len(groups)} workloads cannot be dealt into {plan.sets} held-out sets")
    folds = []
    for number in range(plan.sets):
        held_out = tuple(groups[number :: plan.sets])
        rest = [run for run in runs if run.group not in held_out]
        if len(rest) < plan.sizes[-1]:
            raise DataError(f"{model}: {len(rest)} runs outside of {held_out}, fewer than {plan.sizes[-1]}")
        asked = _drawn([run for run in runs if run.group in held_out], plan.sample, [plan.seed, number])
        for draw in range(plan.draws):
            order = _drawn(rest, plan.sizes[-1], [plan.seed, number, 1 + draw])
            sizes = [size for size in plan.sizes if size or not draw]  # without runs all draws are the same
            folds += [HeldOutFit(model, held_out, draw, order[:size], asked) for size in sizes]
    return folds


def _drawn(runs: Sequence[ServingRun], count: int, seed: Sequence[int]) -> tuple[ServingRun, ...]:
    """At most `count` runs, each as likely as the others, in random order."""
    return tuple(runs[i] for i in np.random.default_rng(seed).permutation(len(runs))[:count])


def _predicted(folder: Path, fold: HeldOutFit) -> tuple[Prediction, ...]:
    llm = next(llm for llm in SHAPES if llm.name == fold.model)
    profile = fit_tables(folder, llm, processes=1, only=fold.evidence).profile
    return tuple(predict_all(fold.asked, profiles={fold.model: profile}))


def check_curve_file(path: Path) -> None:
    """Refuse before long work a file that `curve_text` has no form for, or that cannot be written.

    Raises
    ------
    InputError
        One line with what is wrong.
    """
    if path.suffix not in (".md", ".json"):
        raise InputError(f"{path}: the name must end in .md or .json")
    check_writable(path)


def curve_text(curve: Curve, path: Path | None = None) -> str:
    """What a file of that name holds: JSON, else Markdown."""
    return curve_json(curve) if path is not None and path.suffix == ".json" else curve_markdown(curve)


def curve_json(curve: Curve) -> str:
    """`curve_data` as text."""
    return json.dumps(curve_data(curve), indent=1, allow_nan=False) + "\n"


def curve_data(curve: Curve) -> dict[str, Any]:
    """Plan, held-out sets and scores; NaN as None."""
    document = {
        "plan": curve.plan,
        "held_out": {model: curve.held_out(model) for model in curve.models},
        "errors": curve.scores(),
        "starved": curve.verdicts(),
    }
    plain: dict[str, Any] = as_plain(document)
    return plain


def curve_markdown(curve: Curve) -> str:
    """A table for each LLM, a column for each number of serving runs."""
    parts = ["# Held-out error against serving runs", _introduction(curve)]
    for model in curve.models:
        sets = "; ".join(f"({', '.join(groups)})" for groups in curve.held_out(model))
        parts += [f"## {model}", f"Held out, rates | ranks: {sets}.", _table(curve, model)]
    return "\n\n".join(parts) + "\n"


def _introduction(curve: Curve) -> str:
    plan = curve.plan
    return (
        f"Fitted to the micro measurements and to so many serving runs, drawn {plan.draws} times (seed {plan.seed}) "
        f"from the workloads not held out; {plan.sets} held-out sets, at most {plan.sample} runs of each predicted. "
        "Cells, in per cent: mean absolute error (range over the draws) / median / bias."
    )


def _table(curve: Curve, model: str) -> str:
    header = ["metric", "regime", "runs", *map(str, curve.plan.sizes)]
    lines = [header, ["---"] * len(header), *_score_rows(curve.scores(), model), _verdict_row(curve.verdicts(), model)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _score_rows(scores: Iterable[CurveScore], model: str) -> list[list[str]]:
    rows: dict[tuple[str, str], list[str]] = {}
    for s in scores:
        if s.model == model:
            start = [METRICS[s.metric], s.regime, str(s.predicted)]
            rows.setdefault((s.metric, s.regime), start).append(_cell(s))
    return list(rows.values())


def _cell(s: CurveScore) -> str:
    if math.isnan(s.mape):
        return ""
    spread = f" ({s.mape_min:.1f} to {s.mape_max:.1f})" if s.mape_min < s.mape_max else ""
    return f"{s.mape:.1f}{spread} / {s.median_ape:.1f} / {s.bias:+.1f}"


def _verdict_row(verdicts: Iterable[CurveVerdicts], model: str) -> list[str]:
    of_model = [v for v in verdicts if v.model == model]
    cells = [f"{v.missed:.1f} missed, {v.false_alarms:.1f} false" for v in of_model]
    return [f"starved ({of_model[0].starved} are), wrong runs", "all", str(of_model[0].predicted), *cells]
