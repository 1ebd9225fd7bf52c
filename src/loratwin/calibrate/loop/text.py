"""A calibration in words: what is still uncertain, what was fitted, and how the check came out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import Any

from loratwin.calibrate.checks.check import FIGURES, Checked, CheckScore
from loratwin.calibrate.checks.plausible import LEVEL
from loratwin.calibrate.design import Design
from loratwin.calibrate.records_fit import RecordsFit
from loratwin.calibrate.regression.drift import Drift
from loratwin.records.run import STEADY

_TITLES = {"total_throughput": "tokens/s", "itl_mean_ms": "ITL ms", "ttft_mean_ms": "TTFT ms"}


def design_text(design: Design, engine: str, path: Path) -> str:
    """Servers and their runs, and how long all take."""
    lines = []
    for server in design.servers:
        lines.append(f"{server.name}: {' '.join(server.arguments(engine).words)}")
        for run in server.runs:
            lines.append(f"  {run.name:12s} {run.in_flight:4d} in flight, {run.window_s:g} s: {run.tells}")
    return "\n".join([*lines, f"{path}: {design.num_runs} runs, about {design.seconds() / 60:.1f} minutes"])


def progress_line(fit: RecordsFit) -> str:
    """The fit as it stands, in one line: how sure the known coefficients are, and what nothing tells yet."""
    errors = fit.profile.uncertainty.standard_errors if fit.profile.uncertainty else {}
    known = {name: error / value for name, error in errors.items() if (value := _value(fit, name)) > 0}
    worst = sorted(known, key=lambda name: -known[name])[:3]
    sure = ", ".join(f"{name.split('.')[1]} +-{100 * known[name]:.0f} %" for name in worst)
    missing = [name for name, why in fit.steps.unknown.items() if why != "not told from 0"]
    between = fit.steps.between_runs
    known_to = "?" if isnan(between) else f"{100 * between:.0f} %"
    machine = f"; {_drift_words(fit.drift)}" if not fit.drift.is_steady else ""
    return (
        f"a run's step time is known to {known_to}{machine}; least sure: {sure or 'nothing'}; "
        f"not told yet: {', '.join(missing) or 'nothing'}"
    )


def _drift_words(drift: Drift) -> str:
    """What is known of a machine that is not steady, in a few words."""
    seen = [*drift.factors.values()] or [as_measured for as_measured, _ in drift.again.values()]
    last = f", now {[*drift.factors.values()][-1]:.2f}" if drift.factors else ""
    what = "usual time" if drift.factors else "time when measured again"
    return f"the machine is NOT steady: {min(seen):.2f} to {max(seen):.2f} of its {what}{last}"


def _value(fit: RecordsFit, name: str) -> float:
    part, _, key = name.partition(".")
    return float(getattr(getattr(fit.profile, part), key))


def fitted_text(fit: RecordsFit, path: Path) -> str:
    """Where the profile is, then its coefficients and its card."""
    head = f"{path}: {fit.profile.name}, fitted on {fit.profile.card.fitted_on}"
    return "\n".join([head, *fitted_lines(fit)])


def fitted_data(fit: RecordsFit, path: Path) -> dict[str, Any]:
    """The same as plain data."""
    return {"file": str(path), "profile": fit.profile.model_dump(mode="json")}


def fitted_lines(fit: RecordsFit) -> Iterator[str]:
    """Each coefficient with its error, then the card."""
    errors = fit.profile.uncertainty.standard_errors if fit.profile.uncertainty else {}
    for name, error in errors.items():
        yield f"  {name:32s} {_value(fit, name):10.4g} +- {error:.2g}"
    for what, error_words in fit.profile.card.held_out_error.items():
        yield f"  {what}: {error_words}"
    for note in fit.profile.card.notes:
        yield f"  note: {note}"


def check_rows(checked: Checked) -> Iterator[tuple[str, ...]]:
    """Head and rows of the table: predicted (interval), measured, error and noise of each figure; the verdicts."""
    yield ("workload", *(_TITLES[name] for name in FIGURES), "starved: predicted / measured")
    for name, said, seen in checked.starved:
        scores = {score.figure: score for score in checked.scores if score.check == name}
        cells = [_cell(scores[figure]) if figure in scores else "-" for figure in FIGURES]
        yield (name, *cells, f"{_yes(said)} / {', '.join(map(_yes, seen))}")


def _cell(score: CheckScore) -> str:
    p = score.predicted
    measured = ", ".join(f"{value:.3g}" for value in score.measured)
    mark = "" if score.covered == 1 else " (!)"
    return f"{p.value:.3g} [{p.low:.3g}, {p.high:.3g}] / {measured}: {100 * score.error:+.1f} %{mark}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def summary_lines(checked: Checked) -> Iterator[str]:
    """Mean errors beside the noise, and how often the intervals held."""
    for figure in FIGURES:
        noise = checked.mean_noise(figure)
        beside = "" if isnan(noise) else f", noise of repetitions {100 * noise:.1f} %"
        yield (
            f"{_TITLES[figure]}: mean error {100 * checked.mean_error(figure):.1f} %{beside}, "
            f"{100 * LEVEL:.0f} % intervals held {100 * checked.coverage(figure):.0f} % of the measurements"
        )
    right, of = checked.verdicts_right
    yield f"starved or not: {right} of {of} as predicted"
    yield from _machine_lines(checked)


def _machine_lines(checked: Checked) -> Iterator[str]:
    """How fast the machine was, by the calibration's usual speed."""
    factors = [(factor, name) for name, of_runs in checked.machine for factor in of_runs]
    if factors:
        (least, _), (most, slowest) = min(factors), max(factors)
        steady = least >= 1 / STEADY and most <= STEADY
        took = f"reference loads took {least:.2f} to {most:.2f} ({slowest}) times as long as in the calibration"
        yield f"the machine: {took}" + ("" if steady else ": it was NOT steady, and errors are the machine's, too")


def as_text(checked: Checked) -> str:
    """The table, plain."""
    rows = list(check_rows(checked))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", "predicted [interval] / measured: error; (!) outside", *summary_lines(checked)])


def as_markdown(checked: Checked) -> str:
    """The same as Markdown."""
    head, *rows = check_rows(checked)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows)]
    return "\n".join([*lines, "", *(f"- {line}" for line in summary_lines(checked)), ""])


def as_json(checked: Checked) -> str:
    """`checked_data` as text."""
    return json.dumps(checked_data(checked), indent=1, allow_nan=False) + "\n"


def checked_data(checked: Checked) -> dict[str, Any]:
    """Every number, for programs. Figures are in the unit of their names; errors are parts of 1."""
    return {
        "level": LEVEL,
        "scores": [
            {
                "check": s.check, "figure": s.figure, "predicted": s.predicted.value, "low": s.predicted.low,
                "high": s.predicted.high, "measured": list(s.measured), "error": s.error,
                "noise": _known(s.noise), "covered": s.covered,
            }
            for s in checked.scores
        ],
        "starved": [{"check": n, "predicted": said, "measured": list(seen)} for n, said, seen in checked.starved],
        "mean_error": {figure: _known(checked.mean_error(figure)) for figure in FIGURES},
        "coverage": {figure: _known(checked.coverage(figure)) for figure in FIGURES},
        "verdicts_right": list(checked.verdicts_right),
        "machine": {name: list(factors) for name, factors in checked.machine},
    }  # fmt: skip


def _known(value: float) -> float | None:
    """NaN is null in JSON."""
    return None if isnan(value) else value
