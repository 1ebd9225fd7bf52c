"""The page of a grid: how its runs ended, and each figure against each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loratwin.experiments import RunTable
from loratwin.experiments.text import counts_text
from loratwin.records.plain import as_plain
from loratwin.report.tables import Cell, Column, Row, Table, texts, word
from loratwin.version import __version__

SHOWN = {
    "total_throughput": "throughput, tokens/s",
    "output_throughput": "output, tokens/s",
    "ttft_mean_ms": "TTFT mean, ms",
    "ttft_p99_ms": "TTFT p99, ms",
    "tpot_mean_ms": "TPOT mean, ms",
    "itl_mean_ms": "ITL mean, ms",
    "served_share": "share of the offered tokens served",
}
"""Figures that are drawn."""

_COLOURS = ("#007a5a", "#8a5a00", "#5b3b8c", "#0072b2", "#c25400", "#a8326e", "#24292f", "#57606a")


def grid_html(table: RunTable) -> str:
    """One self-contained HTML file; the same table gives the same bytes."""
    from loratwin.report.page import environment

    return (
        environment()
        .get_template("grid.html.j2")
        .render(
            title=f"Experiments: {table.name}",
            counts=run_counts(table),
            figures=[
                _figure(table, axis, name) for name in SHOWN for axis in _axes(table) if _points(table, axis, name)
            ],
            failures=texts("failed", "Failed", ["run", "reason"], _failures(table)),
            runs=_runs(table),
            version=__version__,
        )
    )


def collected_text(table: RunTable, path: Path) -> str:
    """Where the table is, and how its runs ended."""
    return f"{path}: {len(table.rows)} runs ({counts_text(run_counts(table))})"


def collected_data(table: RunTable) -> dict[str, Any]:
    """The table as plain data."""
    plain: dict[str, Any] = as_plain({"grid": table.name, "axes": table.axes, "runs": table.rows})
    return plain


def _failures(table: RunTable) -> list[list[str]]:
    return [[row["run"], row["reason"]] for row in table.rows if row["stage"] == "failed"]


def _runs(table: RunTable) -> Table:
    """What was done, by run: its place on each axis, then its figures."""
    columns = [
        Column("run", "run", is_word=True),
        *(Column(name, name, is_word=True) for name in table.axes),
        *(Column(name, title) for name, title in SHOWN.items()),
    ]
    done = [row for row in table.rows if row["stage"] == "done"]
    rows = [
        [word(row["run"]), *(_cell(row[name]) for name in table.axes), *(_cell(row.get(name)) for name in SHOWN)]
        for row in done
    ]
    return Table("runs", "Runs", columns, list(map(Row, rows)), find="run")


def _cell(value: Any) -> Cell:
    return Cell(_text(value), value if isinstance(value, (int, float, bool)) else _text(value))


def run_counts(table: RunTable) -> dict[str, int]:
    """Runs by how they ended."""
    counts: dict[str, int] = {}
    for row in table.rows:
        counts[row["stage"]] = counts.get(row["stage"], 0) + 1
    return counts


def _axes(table: RunTable) -> list[str]:
    """Those to be drawn along: more than the number of a repetition."""
    return [axis for axis in table.axes if axis != "repetition"]


def _points(table: RunTable, axis: str, figure: str) -> list[tuple[Any, float, str]]:
    """Value on the axis, figure, and what else differs, of runs that count."""
    others = [name for name in _axes(table) if name != axis]
    points = []
    for row in table.rows:
        value = row.get(figure)
        if row["stage"] == "done" and isinstance(value, (int, float)) and math.isfinite(value):
            points.append((row[axis], float(value), ", ".join(f"{_short(o)} {_text(row[o])}" for o in others)))
    return points


def _figure(table: RunTable, axis: str, figure: str) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from loratwin.report.svg import STYLE, inline_svg

    points = _points(table, axis, figure)
    places = _places([value for value, _, _ in points])
    series: dict[str, list[tuple[float, float]]] = {}
    for value, y, name in points:
        series.setdefault(name, []).append((places[_text(value)], y))
    with rc_context(STYLE):
        drawn = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes = drawn.subplots()
        for number, (name, line) in enumerate(series.items()):
            line.sort()
            colour = _COLOURS[number % len(_COLOURS)]
            axes.plot(
                *zip(*line, strict=True), marker="o", markersize=4, linewidth=1.2, color=colour, label=name or None
            )
        axes.set_title(SHOWN[figure])
        axes.set_xlabel(_short(axis))
        axes.set_xticks(list(places.values()), list(places))
        axes.set_ylim(0, 1.15 * max(y for _, y, _ in points) or 1.0)
        if 1 < len(series) <= len(_COLOURS):
            axes.legend()
    name = f"grid-{axis}-{figure}".replace(".", "-")
    return inline_svg(drawn, name, f"{SHOWN[figure]} against {_short(axis)}, {len(points)} runs")


def _places(values: Sequence[Any]) -> dict[str, float]:
    """Where each value stands: numbers in order at even distances, words as listed."""
    numbers = all(isinstance(value, (int, float)) for value in values)
    order = sorted(set(values)) if numbers else list(dict.fromkeys(map(_text, values)))
    return {_text(value): float(i) for i, value in enumerate(order)}


def _short(axis: str) -> str:
    return axis.split(".", 1)[-1]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
