"""Charts of several panels, each panel of several series: as a figure, and their numbers as one table.

What a series looks like says what it is: measured ones are solid with dots, simulated ones dashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from loratwin.records import write_atomically
from loratwin.report.svg import BLUE, BROWN, GREEN, INK, MUTED, ORANGE, PINK, PURPLE, RED, STYLE, inline_svg
from loratwin.report.tables import Cell, Column, Row, Table, plain, word

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, BROWN, PINK, RED, INK, MUTED)

Look = Literal["measured", "simulated", "line", "points", "bars", "stack", "limit"]
"""measured: solid with dots; simulated: dashed; stack: bars, each upon those before it; limit: a thin dotted line."""

PNG_DPI = 150


@dataclass(frozen=True)
class ChartSeries:
    """Points of one name; `colour` is an index into `COLOURS`, None: the next one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    look: Look = "measured"
    colour: int | None = None


@dataclass(frozen=True)
class Panel:
    """Axes with their series.

    Parameters
    ----------
    ticks
        Names of the places 0, 1, ... where the horizontal axis is one of words.
    log
        Axes on a logarithmic scale: "", "x", "y" or "xy".
    from_zero
        Whether the vertical axis begins at 0, where it is not logarithmic.
    note
        Text in the panel, such as an error.
    """

    title: str
    x: str
    y: str
    series: Sequence[ChartSeries]
    ticks: Sequence[str] = ()
    log: str = ""
    from_zero: bool = True
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure of a page and of a folder.

    Parameters
    ----------
    name
        Of its files, without suffix.
    title
        What it shows, in one line.
    height
        Of a panel, inches.
    one_legend
        Whether all panels have the same series, so that one legend above them is enough.
    """

    name: str
    title: str
    panels: Sequence[Panel]
    columns: int = 3
    height: float = 3.0
    one_legend: bool = False
    notes: Sequence[str] = field(default_factory=tuple)

    def figure(self) -> Figure:
        """Drawn."""
        with rc_context(STYLE):
            return _drawn(self)

    def svg(self) -> str:
        """For a page."""
        panels = "; ".join(panel.title for panel in self.panels)
        return inline_svg(self.figure(), self.name, f"{self.title}: {panels}")

    def table(self) -> Table:
        """Every number: panel, series, x and y."""
        columns = [Column("panel", "panel", is_word=True), Column("series", "series", is_word=True)]
        columns += [Column("x", "x"), Column("y", "y")]
        rows = [
            Row([word(panel.title), word(series.name), _place(panel, x), Cell(plain(float(y)), float(y))])
            for panel in self.panels
            for series in panel.series
            for x, y in zip(series.x, series.y, strict=True)
        ]
        return Table(self.name, self.title, columns, rows)


def write_chart(chart: Chart, folder: Path) -> list[Path]:
    """Write a chart as PNG and SVG; the same chart gives the same bytes.

    Raises
    ------
    InputError
        The folder cannot be written.
    """
    from io import BytesIO

    paths = []
    for suffix in ("png", "svg"):
        buffer = BytesIO()
        with rc_context({**STYLE, "svg.hashsalt": chart.name}):
            metadata = {"Software": None} if suffix == "png" else {"Date": None, "Creator": None}
            _drawn(chart).savefig(buffer, format=suffix, dpi=PNG_DPI, metadata=metadata)
        paths.append(write_atomically(folder / f"{chart.name}.{suffix}", buffer.getvalue()))
    return paths


def _place(panel: Panel, x: float) -> Cell:
    return word(panel.ticks[round(x)]) if panel.ticks else Cell(plain(float(x)), float(x))


def _drawn(chart: Chart) -> Figure:
    columns = min(chart.columns, len(chart.panels))
    rows = -(-len(chart.panels) // columns)
    figure = Figure(figsize=(0.4 + 3.9 * columns, chart.height * rows + 0.4 * chart.one_legend), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes, panel in zip(grid, chart.panels, strict=False):
        _panel(axes, panel, with_legend=not chart.one_legend)
    for axes in grid[len(chart.panels) :]:
        axes.set_axis_off()
    if chart.one_legend:
        handles = {label: line for axes in grid for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        ncols = _fitting(list(handles), figure.get_figwidth())
        figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=ncols)
    return figure


def _fitting(labels: Sequence[str], width: float) -> int:
    """Columns of a legend that fit so many inches: a sign and its distances, and a letter's width."""
    widest = 0.75 + 0.075 * max(map(len, labels), default=0)
    return max(1, min(len(labels), int(width / widest)))


def _panel(axes: Axes, panel: Panel, with_legend: bool) -> None:
    _bars(axes, panel)
    for number, series in enumerate(panel.series):
        if series.look not in ("bars", "stack"):
            again, colour = divmod(number if series.colour is None else series.colour, len(COLOURS))
            look = dict(_LOOKS[series.look])
            if again and "marker" in look:
                look |= {"marker": "s"}  # a colour that another has, too
            axes.plot(list(series.x), list(series.y), color=COLOURS[colour], label=series.name or None, **look)
    axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    if panel.ticks:
        turned = max(map(len, panel.ticks)) * len(panel.ticks) > 40
        axes.set_xticks(
            range(len(panel.ticks)), panel.ticks, rotation=30 if turned else 0, ha="right" if turned else "center"
        )
    _scales(axes, panel)
    if panel.note:
        axes.text(0.98, 0.04, panel.note, transform=axes.transAxes, ha="right", va="bottom", color=MUTED, fontsize=8.5)
    if with_legend and any(series.name for series in panel.series) and len(panel.series) > 1:
        axes.legend(fontsize=8)


_LOOKS: dict[str, dict[str, Any]] = {
    "measured": {"marker": "o", "markersize": 3.5, "linewidth": 1.3},
    "simulated": {"linestyle": "dashed", "linewidth": 1.4},
    "line": {"linewidth": 1.4},
    "points": {"linestyle": "none", "marker": "o", "markersize": 4, "alpha": 0.6, "markeredgewidth": 0},
    "limit": {"linestyle": "dotted", "linewidth": 1.2},
}


def _bars(axes: Axes, panel: Panel) -> None:
    """Bars beside each other, or upon each other."""
    barred = [(i, series) for i, series in enumerate(panel.series) if series.look in ("bars", "stack")]
    below: dict[float, float] = {}
    for place, (number, series) in enumerate(barred):
        colour = COLOURS[(number if series.colour is None else series.colour) % len(COLOURS)]
        x = np.asarray(series.x, float)
        if series.look == "stack":
            bottom = [below.get(float(at), 0.0) for at in x]
            axes.bar(x, list(series.y), 0.7, bottom=bottom, color=colour, label=series.name)
            below |= {float(at): under + float(y) for at, under, y in zip(x, bottom, series.y, strict=True)}
        else:
            width = 0.8 / len(barred)
            axes.bar(
                x + width * (place - (len(barred) - 1) / 2),
                list(series.y),
                0.9 * width,
                color=colour,
                label=series.name,
            )


def _scales(axes: Axes, panel: Panel) -> None:
    for letter, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if letter in panel.log:
            axis.axes.set(**{f"{letter}scale": "log"})
            axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if _decades(panel, letter) < 3 else (1.0,)))
            axis.set_minor_formatter(NullFormatter())
        if letter in panel.log or (letter == "y" and _largest(panel) >= 10_000):
            axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    if "y" not in panel.log and panel.from_zero:
        axes.set_ylim(0, 1.08 * _largest(panel) or 1.0)


def _values(panel: Panel, letter: str) -> list[float]:
    return [float(v) for series in panel.series for v in getattr(series, letter) if np.isfinite(v)]


def _decades(panel: Panel, letter: str) -> float:
    values = [v for v in _values(panel, letter) if v > 0]
    return float(np.log10(max(values) / min(values))) if values else 0.0


def _largest(panel: Panel) -> float:
    stacked: dict[float, float] = {}
    for series in panel.series:
        if series.look == "stack":
            for x, y in zip(series.x, series.y, strict=True):
                stacked[float(x)] = stacked.get(float(x), 0.0) + float(y)
    return max([*_values(panel, "y"), *stacked.values()], default=1.0)


def short(value: float) -> str:
    """A tick's number: 10k, 2M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
