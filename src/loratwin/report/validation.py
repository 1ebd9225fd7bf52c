"""The accuracy report: held-out errors by regime, bias, worst cases, scatter plots; as Markdown and as HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loratwin.calibrate.published.fit import SOURCE
from loratwin.records import write_atomically
from loratwin.records.plain import as_plain
from loratwin.report.tables import titled
from loratwin.validate.crossval import Validation
from loratwin.validate.predict import Prediction
from loratwin.validate.scores import METRICS, AdviceScore, ErrorScore, Verdicts, measured_value, regime, relative_error
from loratwin.version import __version__

LABELS = {
    "total_throughput": "throughput",
    "itl_mean_ms": "ITL, mean",
    "tpot_mean_ms": "TPOT, mean",
    "ttft_mean_ms": "TTFT, mean",
    "ttft_median_ms": "TTFT, median",
    "running_mean": "running requests, mean",
}

UNITS = {
    "total_throughput": "tokens/s",
    "itl_mean_ms": "ms",
    "tpot_mean_ms": "ms",
    "ttft_mean_ms": "ms",
    "ttft_median_ms": "ms",
    "running_mean": "requests",
}

_WORST = 5

Table = tuple[Sequence[str], list[Sequence[str]]]
"""Header and rows."""


def score_table(scores: Iterable[ErrorScore]) -> Table:
    """Errors of every metric and regime."""
    header = ("metric", "regime", "runs", "MAPE", "median APE", "90 % of runs within", "bias")
    rows = [
        (LABELS[s.metric], s.regime, str(s.runs), _pc(s.mape), _pc(s.median_ape), _pc(s.p90_ape), _pc(s.bias, "+.1f"))
        for s in scores
    ]
    return header, list(rows)


def _pc(value: float, form: str = ".1f") -> str:
    return "" if math.isnan(value) else f"{value:{form}} %"


def verdict_table(starved: Verdicts, starts: Verdicts) -> Table:
    """Yes-or-no predictions."""
    header = ("question", "yes, found", "no, found", "missed", "false alarms")
    rows = [
        (name, str(v.both_yes), str(v.both_no), str(v.missed), str(v.false_alarm))
        for name, v in (("starved", starved), ("starts", starts))
    ]
    return header, list(rows)


def advice_table(advice: Iterable[AdviceScore]) -> Table:
    """Regret of advice on the measured grids."""
    header = ("question", "cases", "mean regret", "bad advice", "wrong on 'none works'", "right on 'none works'")
    rows = [
        (a.question, str(a.cases), _pc(a.mean_regret, ".2f"), str(a.bad), str(a.wrong_none), str(a.right_none))
        for a in advice
    ]
    return header, list(rows)


def worst_table(v: Validation, metric: str) -> Table:
    """The runs with the largest errors of one metric."""
    header = ("run", "regime", "measured", "predicted", "error")
    pairs = [
        (run, p, relative_error(run, p, metric)) for run, p in zip(v.runs, v.predictions, strict=True) if run.measured
    ]
    pairs = [pair for pair in pairs if not math.isnan(pair[2])]
    pairs.sort(key=lambda pair: -abs(pair[2]))
    rows = [
        (run.name, regime(run), f"{measured_value(run, metric):.4g}", _figure(p, metric), f"{100 * e:+.0f} %")
        for run, p, e in pairs[:_WORST]
    ]
    return header, list(rows)


def _figure(p: Prediction, metric: str) -> str:
    value = getattr(p, metric)
    return "none" if math.isnan(value) else f"{value:.4g}"


def shape_table(v: Validation, metric: str = "total_throughput") -> Table:
    """The residual's shape: error by workload."""
    header = ("LLM", "workload (rates | ranks)", "runs", "MAPE", "bias")
    groups: dict[tuple[str, str], list[float]] = {}
    for run, p in zip(v.runs, v.predictions, strict=True):
        if run.measured:
            groups.setdefault((run.model, run.group), []).append(relative_error(run, p, metric))
    rows = []
    for (model, group), errors in sorted(groups.items()):
        e = 100 * np.array([error for error in errors if not math.isnan(error)])
        if len(e):
            rows.append((model, group, str(len(e)), _pc(float(np.abs(e).mean())), _pc(float(e.mean()), "+.1f")))
    return header, list(rows)


def kv_sentence(v: Validation) -> str:
    """KV capacity in one sentence."""
    errors = v.kv_errors
    if not errors:
        return "KV capacity was not measured."
    return (
        f"KV capacity, predicted from shapes for {len(errors)} servers: mean absolute error "
        f"{100 * float(np.mean(errors)):.2f} %, worst {100 * max(errors):.2f} %."
    )


def sections(v: Validation) -> list[tuple[str, Table]]:
    """All tables with their titles, in the order of the report."""
    tables = [
        ("Errors on held-out workloads", score_table(v.scores)),
        ("Starved and starts", verdict_table(v.starved, v.starts)),
        ("AdviceScore on the measured grids", advice_table(v.advice)),
        ("Throughput error by workload", shape_table(v)),
        ("ITL error by workload", shape_table(v, "itl_mean_ms")),
        ("TTFT (median) error by workload", shape_table(v, "ttft_median_ms")),
    ]
    if v.published:
        tables.insert(1, ("The published twin on the runs that it predicted", score_table(v.published_scores)))
    tables += [(f"Worst cases: {LABELS[metric]}", worst_table(v, metric)) for metric in METRICS]
    return tables


def validation_markdown(v: Validation) -> str:
    """The report as Markdown."""
    parts = ["# How good the twin is", f"{_introduction(v)}\n\n{kv_sentence(v)}"]
    parts += [f"## {title}\n\n{markdown_table(table)}" for title, table in sections(v)]
    return "\n\n".join(parts) + "\n"


def validation_data(v: Validation) -> dict[str, Any]:
    """Scores as plain data: errors in per cent of what was measured."""
    plain: dict[str, Any] = as_plain(
        {
            "how": v.how,
            "scores": v.scores,
            "published_scores": v.published_scores,
            "advice": v.advice,
            "starved": v.starved,
            "starts": v.starts,
            "kv_errors": v.kv_errors,
        }
    )
    return plain


def validation_html(v: Validation) -> str:
    """The report as one HTML file that needs nothing else; the same validation gives the same bytes."""
    from loratwin.report.page import environment
    from loratwin.report.validation_figures import scatter

    return (
        environment()
        .get_template("validation.html.j2")
        .render(
            title="How good the twin is",
            introduction=_introduction(v),
            capacity=kv_sentence(v),
            figures=[scatter(v, metric, label, UNITS[metric]) for metric, label in LABELS.items()],
            tables=titled(sections(v)),
            version=__version__,
            source=SOURCE,
        )
    )


def _introduction(v: Validation) -> str:
    measured = sum(run.measured for run in v.runs)
    return (
        f"Simulated against measured: {measured} one-hour runs, {v.how}. "
        "Predictions use configuration columns only. A run is saturated when on average more than 20 requests wait."
    )


def markdown_table(table: Table) -> str:
    """A table as Markdown."""
    header, rows = table
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def write_validation(validation: Validation, folder: Path) -> tuple[Path, Path]:
    """Write `report.html` and `report.md` into a folder that is there; their paths.

    Raises
    ------
    InputError
        The folder cannot be written.
    """
    markdown = write_atomically(folder / "report.md", validation_markdown(validation))
    return write_atomically(folder / "report.html", validation_html(validation)), markdown
