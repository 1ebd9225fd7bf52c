"""Honest errors: every workload is predicted by a profile that was fitted without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loratwin.calibrate.published.fit import SERVING_FILES, TablesFit, fit_tables
from loratwin.calibrate.published.serving import ServingRun, read_serving
from loratwin.calibrate.published.start import SHAPES
from loratwin.calibrate.published.tables import number, read_table
from loratwin.validate.decisions import Decision, decide_all
from loratwin.validate.predict import Prediction, predict_all
from loratwin.validate.scores import (
    AdviceScore,
    ErrorScore,
    Verdicts,
    kv_errors,
    score,
    score_advice,
    start_verdicts,
    starved_verdicts,
)

Progress = Callable[[str, int, int], None]

FIRST_LOOK = "a first look (the whole takes up to 15 minutes on two cores)"

REFERENCE_FILE = "serving_validation_reference_twin.csv"


@dataclass(frozen=True)
class Validation:
    """Held-out predictions of measured runs, and their scores."""

    runs: tuple[ServingRun, ...]
    predictions: tuple[Prediction, ...]
    decisions: tuple[Decision, ...]
    published: tuple[tuple[ServingRun, Prediction], ...]  # the published twin on the runs that it predicted
    how: str

    @property
    def scores(self) -> list[ErrorScore]:
        return score(self.runs, self.predictions)

    @property
    def published_scores(self) -> list[ErrorScore]:
        """The published twin's errors on its runs."""
        runs, predictions = [run for run, _ in self.published], [p for _, p in self.published]
        return score(runs, predictions, ("total_throughput", "itl_mean_ms"))

    @property
    def advice(self) -> list[AdviceScore]:
        return score_advice(self.runs, self.decisions)

    @property
    def starved(self) -> Verdicts:
        return starved_verdicts(self.runs, self.predictions)

    @property
    def starts(self) -> Verdicts:
        return start_verdicts(self.runs, self.predictions)

    @property
    def kv_errors(self) -> list[float]:
        return kv_errors(self.runs, self.predictions)


def fit_all(folder: Path, processes: int, progress: Progress) -> dict[str, TablesFit]:
    """Fits of every LLM that the measurements cover, by its name."""
    return {llm.name: fit_tables(folder, llm, processes, progress=progress) for llm in SHAPES}


def first_look(folder: Path, processes: int, progress: Progress) -> list[ErrorScore]:
    """Errors of the shipped profiles, which know these runs, over all of each LLM and metric: there in a fraction of
    the time that the held-out ones take."""
    runs = [run for run in read_serving(folder / SERVING_FILES[0]) if run.model in {llm.name for llm in SHAPES}]
    predictions = predict_all(runs, processes=processes, progress=partial(progress, FIRST_LOOK))
    return [row for row in score(runs, predictions) if row.regime == "all"]


def cross_validate(folder: Path, fits: dict[str, TablesFit], processes: int, progress: Progress) -> Validation:
    """Predict and advise on every open workload with the profile fitted without it."""
    files = [read_serving(folder / name) for name in SERVING_FILES]
    runs = [run for file in files for run in file]
    predictions: dict[str, Prediction] = {}
    decisions: list[Decision] = []
    grid = set(run.name for run in files[SERVING_FILES.index("serving_optimum.csv")])
    for model, fit in fits.items():
        for group in fit.groups:
            held_out = [run for run in runs if run.model == model and run.group == group]
            profiles = {model: fit.without(group)}
            label = partial(progress, f"{model}: predicting {group}")
            for p in predict_all(held_out, processes=processes, progress=label, profiles=profiles):
                predictions[p.run] = p
            asked = [run for run in held_out if run.name in grid]
            if asked:
                label = partial(progress, f"{model}: deciding {group}")
                decisions += decide_all(asked, processes=processes, progress=label, profiles=profiles)
    kept = [run for run in runs if run.name in predictions]
    return Validation(
        runs=tuple(kept),
        predictions=tuple(predictions[run.name] for run in kept),
        decisions=tuple(decisions),
        published=tuple(read_published(folder, kept)),
        how="every workload (rates and ranks) predicted by a profile fitted without it",
    )


def read_published(folder: Path, runs: Sequence[ServingRun]) -> list[tuple[ServingRun, Prediction]]:
    """What the published twin predicted, for comparison; nothing where its file is absent."""
    path = folder / REFERENCE_FILE
    if not path.exists():
        return []
    by_name = {run.name: run for run in runs}
    rows = read_table(path, ("run", "total_throughput", "itl_mean_ms"))
    return [(by_name[row["run"]], _published(row)) for row in rows if row["run"] in by_name]


def _published(row: dict[str, str]) -> Prediction:
    return Prediction(
        run=row["run"],
        total_throughput=number(row, "total_throughput"),
        itl_mean_ms=number(row, "itl_mean_ms"),
        starts=1,
    )
