"""Advice on the measured grids: which adapters and slots to run, answered by the twin or by the model learned from it.

Questions of `score_decisions.py`: `joint` (adapters and slots for the most throughput), `slots` (slots for the most
throughput, adapters given), `latency` (slots for the least mean end-to-end latency, adapters given). A point is good
when the server starts and finishes more than 90 % of the offered tokens.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any

from loratwin.calibrate.published.serving import ServingRun, profile_for, read_serving
from loratwin.errors import DataError
from loratwin.learn.models.model import LearnedModel
from loratwin.metrics import STARVED_RATIO
from loratwin.perf import Profile
from loratwin.records import write_atomically
from loratwin.validate.learned import predict_learned
from loratwin.validate.predict import Prediction, check_output, offered_tokens_per_s, predict_all

SHARE_ERROR = 0.015
"""Standard error of a predicted served share (tokens finished / offered) near saturation, from cross-validation."""

STEP_ERROR = 0.10
"""How much slower a server may be than the twin says: nine of ten held-out runs are within (TPOT, cross-validation)."""

HEADER = ("model", "rates", "adapter_ranks_cycle", "question", "served_adapters", "max_loras")


@dataclass(frozen=True)
class Point:
    """A point of a grid as predicted."""

    served_adapters: int
    max_loras: int
    throughput: float
    latency_ms: float  # TTFT + TPOT x (mean output - 1)
    chance_good: float  # that it starts and does not starve


@dataclass(frozen=True)
class Decision:
    """One row of the decisions file; no point: nothing works."""

    workload: tuple[str, str, str]  # model, rates, adapter_ranks_cycle as in the measured file
    question: str
    served_adapters: int
    point: Point | None


def fill_workloads(runs: Sequence[ServingRun]) -> list[ServingRun]:
    """Give rows without rates or lengths those of their workload: equal counts of each rate, mean lengths.

    Where no server of a workload started, the lengths are the means of the LLM's other workloads.

    Raises
    ------
    DataError
        No row of the LLM has lengths.
    """
    return [run if run.has_workload else _filled(run, runs) for run in runs]


def _key(run: ServingRun) -> tuple[str, str, str]:
    return run.model, run.rates, run.row["adapter_ranks_cycle"]


def _filled(run: ServingRun, runs: Sequence[ServingRun]) -> ServingRun:
    same_llm = [other for other in runs if other.has_workload and other.model == run.model]
    known = [other for other in same_llm if _key(other) == _key(run)] or same_llm
    if not known or not run.rates:
        raise DataError(f"run {run.name!r}: neither its row nor others of its LLM have rates and lengths")
    try:
        values = tuple(float(rate) for rate in run.rates.split())
    except ValueError:
        raise DataError(f"run {run.name!r}: rates {run.rates!r} are no numbers with spaces between them") from None
    base, more = divmod(run.served_adapters, len(values))
    return replace(
        run,
        rate_values=values,
        rate_counts=tuple(base + (i < more) for i in range(len(values))),
        prompt_tokens_mean=sum(r.prompt_tokens_mean for r in known) / len(known),
        output_tokens_mean=sum(r.output_tokens_mean for r in known) / len(known),
    )


def predicted_point(run: ServingRun, expected: Prediction, slow: Prediction) -> Point:
    """A grid point from the prediction for it, and from one for a server slower by the twin's own error.

    Near saturation latency explodes, and a mean over what the server may turn out to be is dominated by the slow case:
    advice with room to spare is better than advice at the edge.
    """
    if not expected.starts:
        return Point(run.served_adapters, run.max_loras, 0.0, float("inf"), 0.0)
    share = expected.total_throughput / offered_tokens_per_s(run)
    latency = (_latency_ms(run, expected) + _latency_ms(run, slow)) / 2
    chance = NormalDist(STARVED_RATIO, SHARE_ERROR).cdf(share)
    return Point(run.served_adapters, run.max_loras, expected.total_throughput, latency, chance)


def _latency_ms(run: ServingRun, p: Prediction) -> float:
    return p.ttft_mean_ms + p.tpot_mean_ms * (run.output_tokens_mean - 1)


def best(points: Sequence[Point], value: Callable[[Point], float]) -> Point | None:
    """The point of the highest expected value (advice that starves is worth nothing); None: none is likely good."""
    likely = [point for point in points if point.chance_good >= 0.5]
    return max(likely, key=lambda point: value(point) * point.chance_good, default=None)


def _throughput(point: Point) -> float:
    return point.throughput


def _quickness(point: Point) -> float:
    return 1 / point.latency_ms


def decide(points: Sequence[Point], workload: tuple[str, str, str]) -> list[Decision]:
    """Answers to all questions about one workload."""
    joint = best(points, _throughput)
    served_counts = sorted({point.served_adapters for point in points})
    decisions = [Decision(workload, "joint", joint.served_adapters if joint else served_counts[0], joint)]
    for question, value in (("slots", _throughput), ("latency", _quickness)):
        for served in served_counts:
            chosen = best([point for point in points if point.served_adapters == served], value)
            decisions.append(Decision(workload, question, served, chosen))
    return decisions


def decide_all(
    runs: Sequence[ServingRun],
    seeds: Sequence[int] = (0,),
    processes: int = 1,
    progress: Callable[[int, int], None] = lambda done, of: None,
    profiles: dict[str, Profile] | None = None,
    learned: LearnedModel | None = None,
) -> list[Decision]:
    """Answers for every workload in the file, in order of appearance.

    Parameters
    ----------
    learned
        Predicts instead of the twin, at once: `seeds` and `processes` are not used then.
    """
    filled = fill_workloads(runs)
    slower = {model: _slower((profiles or {}).get(model) or profile_for(model)) for model in {r.model for r in filled}}
    if learned is not None:
        expected = predict_learned(filled, learned, lambda done, of: progress(done, 2 * of), profiles)
        slow = predict_learned(filled, learned, lambda done, of: progress(done + of, 2 * of), slower)
    else:
        expected = predict_all(filled, seeds, processes, lambda done, of: progress(done, 2 * of), profiles)
        slow = predict_all(filled, seeds, processes, lambda done, of: progress(done + of, 2 * of), slower)
    points: dict[tuple[str, str, str], list[Point]] = {}
    for run, *predictions in zip(filled, expected, slow, strict=True):
        points.setdefault(_key(run), []).append(predicted_point(run, *predictions))
    return [decision for workload, grid in points.items() for decision in decide(grid, workload)]


def decide_file(
    runs: Path,
    output: Path,
    seeds: Sequence[int] = (0,),
    processes: int = 1,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
    learned: LearnedModel | None = None,
) -> list[Decision]:
    """Answer for every workload of a measured table, into a CSV file; what `loratwin validate decisions` does.

    Parameters
    ----------
    runs, output
        A serving_*.csv, and the file to write.
    seeds, processes, learned
        As for `decide_all`.
    progress
        Called with what is done, how much of it, and of how much.

    Raises
    ------
    DataError, InputError
        The table is damaged, or as `check_output`.
    """
    rows = read_serving(runs)
    check_output(output, runs)
    decisions = decide_all(rows, seeds, processes, partial(progress, "predicting grid points"), learned=learned)
    write_atomically(output, decisions_csv(decisions))
    return decisions


def _slower(profile: Profile) -> Profile:
    return profile.model_copy(update={"step_time": profile.step_time.scaled(1 + STEP_ERROR)})


def decisions_data(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """The decisions as plain data, under the names of the file's columns; no slots: None."""
    return [
        dict(
            zip(
                HEADER,
                (*d.workload, d.question, d.served_adapters, d.point.max_loras if d.point else None),
                strict=True,
            )
        )
        for d in decisions
    ]


def decisions_csv(decisions: Sequence[Decision]) -> str:
    """The decisions file as text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    for row in decisions_data(decisions):
        writer.writerow(row.values())
    return out.getvalue()
