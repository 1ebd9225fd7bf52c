"""How good predictions and advice are, by regime, with bias."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from loratwin.calibrate.published.serving import ServingRun
from loratwin.calibrate.published.tables import number
from loratwin.metrics import STARVED_RATIO
from loratwin.validate.decisions import Decision
from loratwin.validate.predict import Prediction, offered_tokens_per_s

METRICS = ("total_throughput", "itl_mean_ms", "tpot_mean_ms", "ttft_mean_ms", "ttft_median_ms", "running_mean")
SATURATED_QUEUE = 20.0
"""Mean queue beyond which a measured run counts as saturated."""


@dataclass(frozen=True)
class ErrorScore:
    """Errors of one metric over some runs, in per cent of the measured value."""

    metric: str
    regime: str  # all, open, saturated, or an LLM
    runs: int
    mape: float  # mean absolute percentage error
    median_ape: float
    p90_ape: float
    bias: float  # mean signed error


@dataclass(frozen=True)
class Verdicts:
    """Agreement of a yes-or-no prediction with the measurement."""

    both_yes: int
    both_no: int
    missed: int  # measured yes, predicted no
    false_alarm: int  # predicted yes, measured no


def measured_value(run: ServingRun, metric: str) -> float:
    """A metric as measured; total throughput is the sum of both directions."""
    if metric == "total_throughput":
        return run.figure("input_throughput") + run.figure("output_throughput")
    return run.figure(metric)


def regime(run: ServingRun) -> str:
    """`saturated` when requests queue, else `open`."""
    return "saturated" if run.figure("waiting_mean") > SATURATED_QUEUE else "open"


def score(
    runs: Sequence[ServingRun], predictions: Sequence[Prediction], metrics: Sequence[str] = METRICS
) -> list[ErrorScore]:
    """Scores of the metrics for all completed runs, by regime and by LLM."""
    pairs = [(run, p) for run, p in zip(runs, predictions, strict=True) if run.measured]
    groups = {"all": pairs}
    for name in ("open", "saturated"):
        groups[name] = [(run, p) for run, p in pairs if regime(run) == name]
    for model in sorted({run.model for run, _ in pairs}):
        groups[model] = [(run, p) for run, p in pairs if run.model == model]
    return [_score(metric, name, chosen) for metric in metrics for name, chosen in groups.items() if chosen]


def _score(metric: str, name: str, pairs: Sequence[tuple[ServingRun, Prediction]]) -> ErrorScore:
    errors = np.array([relative_error(run, p, metric) for run, p in pairs])
    errors = errors[~np.isnan(errors)]
    size = np.abs(errors)
    if not len(errors):
        return ErrorScore(metric, name, 0, math.nan, math.nan, math.nan, math.nan)
    percent = [100 * float(v) for v in (size.mean(), np.median(size), np.quantile(size, 0.9), errors.mean())]
    return ErrorScore(metric, name, len(errors), *percent)


def relative_error(run: ServingRun, prediction: Prediction, metric: str) -> float:
    """Predicted / measured - 1; -1 where a server that ran was said not to start; NaN where nothing was measured."""
    measured = measured_value(run, metric)
    if not measured > 0:
        return math.nan
    predicted: float = getattr(prediction, metric)
    return predicted / measured - 1 if math.isfinite(predicted) else -1.0


def starved_verdicts(runs: Iterable[ServingRun], predictions: Iterable[Prediction]) -> Verdicts:
    """Starved as measured and as predicted."""
    pairs = [(is_starved(run), bool(p.starved)) for run, p in zip(runs, predictions, strict=True) if run.measured]
    return _verdicts(pairs)


def start_verdicts(runs: Iterable[ServingRun], predictions: Iterable[Prediction]) -> Verdicts:
    """Servers that start, as measured and as predicted; runs that failed for another reason do not count."""
    outcomes = [(run.row.get("outcome"), bool(p.starts)) for run, p in zip(runs, predictions, strict=True)]
    return _verdicts([(outcome == "ok", starts) for outcome, starts in outcomes if outcome not in (None, "error")])


def _verdicts(pairs: Sequence[tuple[bool, bool]]) -> Verdicts:
    return Verdicts(
        both_yes=sum(a and b for a, b in pairs),
        both_no=sum(not a and not b for a, b in pairs),
        missed=sum(a and not b for a, b in pairs),
        false_alarm=sum(b and not a for a, b in pairs),
    )


def is_starved(run: ServingRun) -> bool:
    """Measured throughput at most 90 % of what was offered."""
    return measured_value(run, "total_throughput") / offered_tokens_per_s(run) <= STARVED_RATIO


def kv_errors(runs: Iterable[ServingRun], predictions: Iterable[Prediction]) -> list[float]:
    """Absolute relative errors of the KV capacity, of servers that started."""
    pairs = [(number(run.row, "kv_tokens"), p.kv_tokens) for run, p in zip(runs, predictions, strict=True)]
    return [abs(predicted / measured - 1) for measured, predicted in pairs if measured > 0]


@dataclass(frozen=True)
class AdviceScore:
    """How good the answers to one question are, in per cent."""

    question: str
    cases: int
    mean_regret: float  # of all cases that something serves; advice that starves or does not start counts as 100
    bad: int  # advised what starved or did not start though something works
    wrong_none: int  # said that nothing works, or said that something works, wrongly
    right_none: int


def score_advice(runs: Sequence[ServingRun], decisions: Sequence[Decision]) -> list[AdviceScore]:
    """Regret of every question's answers against the measured grid, as `score_decisions.py` counts it."""
    return [_advice(runs, [d for d in decisions if d.question == q], q) for q in ("joint", "slots", "latency")]


def _advice(runs: Sequence[ServingRun], decisions: Sequence[Decision], question: str) -> AdviceScore:
    regrets: list[float] = []
    cases = bad = wrong_none = right_none = 0
    for decision in decisions:
        grid = [run for run in runs if _belongs(run, decision)]
        if all(run.row.get("outcome") == "error" for run in grid):
            continue  # nothing is known
        cases += 1
        good = {(run.served_adapters, run.max_loras): _value(run, question) for run in grid if _is_good(run)}
        point = decision.point
        if not good or point is None:
            right_none += not good and point is None
            wrong_none += bool(good) != (point is not None)
            regrets += [1.0] if good else []
            continue
        value = good.get((point.served_adapters, point.max_loras))
        if value is None and _outcome(grid, point.served_adapters, point.max_loras) == "error":
            continue
        bad += value is None
        regrets.append(1.0 if value is None else 1 - value / max(good.values()))
    mean = 100 * sum(regrets) / len(regrets) if regrets else math.nan
    return AdviceScore(question, cases, mean, bad, wrong_none, right_none)


def _belongs(run: ServingRun, decision: Decision) -> bool:
    same = (run.model, run.rates, run.row["adapter_ranks_cycle"]) == decision.workload
    return same and (decision.question == "joint" or run.served_adapters == decision.served_adapters)


def _outcome(grid: Sequence[ServingRun], served: int, slots: int) -> str | None:
    outcomes = [run.row.get("outcome") for run in grid if (run.served_adapters, run.max_loras) == (served, slots)]
    return outcomes[0] if outcomes else None


def _is_good(run: ServingRun) -> bool:
    return run.measured and not is_starved(run)


def _value(run: ServingRun, question: str) -> float:
    if question == "latency":
        tokens = run.output_tokens_mean - 1
        return 1 / (run.figure("ttft_mean_ms") + run.figure("tpot_mean_ms") * tokens)
    return measured_value(run, "total_throughput")
