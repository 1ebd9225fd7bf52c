"""Axes that the figures of runs share: lines over the window, and cumulative distributions of times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from loratwin.formatting import milliseconds
from loratwin.records.columns import FloatArray
from loratwin.report.looks import Look
from loratwin.report.svg import STYLE, inline_svg

SIZE = (4.7, 2.75)  # inches
PARTS = 120

Curve = tuple[Look, FloatArray, FloatArray]
"""A run, and the x and y of its line."""


def edges_s(shown: Sequence[Look]) -> FloatArray:
    """Equal parts of the longest window."""
    return equal_parts_s(max(look.run.window_s for look in shown))


def equal_parts_s(window_s: float) -> FloatArray:
    """Edges of equal parts of a window: as many as a figure can show, none much shorter than half a second."""
    return np.linspace(0, window_s, max(10, min(PARTS, int(2 * window_s))) + 1)


def over_time(name: str, title: str, lines: Sequence[Curve], log: bool = False) -> str:
    """Lines over the window, from 0 up (or logarithmic)."""
    with rc_context(STYLE):
        figure, axes = new_axes()
        for look, time_s, values in lines:
            inside = time_s <= look.run.window_s
            x = time_s[inside] / _time_unit(lines)[0]
            axes.plot(x, values[inside], color=look.colour, linestyle=look.dashes, linewidth=1.3)
        axes.set_title(title)
        _time_axis(axes, lines)
        _height(axes, [values for _, _, values in lines], log)
        return inline_svg(figure, name, f"{title} over the window: {_who([look for look, _, _ in lines])}.")


def cumulative(name: str, title: str, lines: Sequence[Curve], what: str) -> str:
    with rc_context(STYLE):
        figure, axes = new_axes()
        for look, milliseconds, share in lines:
            axes.plot(milliseconds, 100 * share, color=look.colour, linestyle=look.dashes, linewidth=1.4)
        axes.set_title(title)
        axes.set_ylim(0, 100)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        _log_milliseconds(axes, [x for _, x, _ in lines])
        return inline_svg(figure, name, f"{title}: share of {what} up to each time, of {_who([x[0] for x in lines])}.")


def new_axes(size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def middles(edges: FloatArray) -> FloatArray:
    middles: FloatArray = (edges[1:] + edges[:-1]) / 2
    return middles


def _time_unit(lines: Sequence[Curve]) -> tuple[float, str]:
    longest = max(look.run.window_s for look, _, _ in lines)
    return (60.0, "minutes") if longest >= 300 else (1.0, "seconds")


def _time_axis(axes: Axes, lines: Sequence[Curve]) -> None:
    unit_s, word = _time_unit(lines)
    axes.set_xlim(0, max(look.run.window_s for look, _, _ in lines) / unit_s)
    axes.set_xlabel(word)


def _height(axes: Axes, columns: Sequence[FloatArray], log: bool) -> None:
    known = np.concatenate([values[~np.isnan(values)] for values in columns])
    most = float(known.max(initial=0.0))
    if log and (known > 0).any():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(log_ticks(known[known > 0]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        return
    axes.set_ylim(0, 1.1 * most if most > 0 else 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _log_milliseconds(axes: Axes, columns: Sequence[FloatArray]) -> None:
    known = np.concatenate([values[values > 0] for values in columns])
    axes.set_xscale("log")
    if len(known):
        axes.set_xlim(0.8 * float(known.min()), 1.25 * float(known.max()))
        axes.xaxis.set_major_locator(log_ticks(known))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: milliseconds(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def log_ticks(values: FloatArray) -> LogLocator:
    """Ticks at 1, 2, 5, 10, ... where they leave room for each other, else at the powers of ten. Values are above 0."""
    return LogLocator(10, subs=(1, 2, 5) if values.max() < 100 * values.min() else (1,))


def _who(shown: Sequence[Look]) -> str:
    return ", ".join(dict.fromkeys(f"{look.name} ({look.run.kind})" for look in shown))
