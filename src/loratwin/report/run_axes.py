"""Axes that the figures of runs share: lines over the window, and cumulative distributions of times."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator, NullFormatter

from loratwin.formatting import milliseconds, number, share
from loratwin.records.columns import FloatArray
from loratwin.report.looks import Look
from loratwin.report.svg import MOST_STRIPS, STYLE, Spot, inline_svg

SIZE = (4.7, 2.75)  # inches
PARTS = 120
DAY_S = 86400.0

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
            x = time_s[inside] / time_unit(_longest_s(lines))[0]
            axes.plot(x, values[inside], color=look.colour, linestyle=look.dashes, linewidth=1.3)
        axes.set_title(title)
        time_axis(axes, _longest_s(lines))
        _height(axes, [values for _, _, values in lines], log)
        words = f"{title} over the window: {_who([look for look, _, _ in lines])}."
        return inline_svg(figure, name, words, _along(axes, lines, _longest_s(lines)))


def cumulative(name: str, title: str, lines: Sequence[Curve], what: str) -> str:
    with rc_context(STYLE):
        figure, axes = new_axes()
        for look, up_to_ms, of_all in lines:
            axes.plot(up_to_ms, 100 * of_all, color=look.colour, linestyle=look.dashes, linewidth=1.4)
        axes.set_title(title)
        axes.set_ylim(0, 100)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
        _log_milliseconds(axes, [x for _, x, _ in lines])
        words = f"{title}: share of {what} up to each time, of {_who([look for look, _, _ in lines])}."
        return inline_svg(figure, name, words, _shares(axes, lines))


def _shares(axes: Axes, lines: Sequence[Curve]) -> list[Spot]:
    """The share of each line that took at most so long, at places along the axis."""
    edges = np.geomspace(*axes.get_xlim(), MOST_STRIPS + 1)
    spots = []
    for left, right in pairwise(edges):
        at = float(np.sqrt(left * right))
        texts = [f"{look.name}: {share(_share_within(at, x, y))}" for look, x, y in lines if len(x)]
        spots.append(Spot(axes, "\n".join([f"at most {milliseconds(at)}", *texts]), left, right=right))
    return spots


def _share_within(at: float, x: FloatArray, y: FloatArray) -> float:
    return float(np.interp(at, x, y, left=0.0))


def new_axes(size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def middles(edges: FloatArray) -> FloatArray:
    middles: FloatArray = (edges[1:] + edges[:-1]) / 2
    return middles


def time_unit(window_s: float) -> tuple[float, str]:
    """Seconds of the unit that a window's axis is in, and its name; a day begins at midnight, as `diurnal` does."""
    if window_s >= DAY_S / 2:
        return 3600.0, "hours" if window_s > DAY_S else "hour of the day"
    return (60.0, "minutes") if window_s >= 300 else (1.0, "seconds")


def moment(at_s: float, window_s: float) -> str:
    """A time of the window as text: `12.5 minutes`, `06:30` of a day."""
    unit_s, word = time_unit(window_s)
    if window_s > DAY_S or unit_s != 3600:
        return f"{at_s / unit_s:.3g} {word}"
    return f"{int(at_s // 3600):02}:{int(at_s % 3600 // 60):02}"


def time_axis(axes: Axes, window_s: float) -> None:
    """From 0 to the window's end; a tick every few hours of a day."""
    unit_s, word = time_unit(window_s)
    axes.set_xlim(0, window_s / unit_s)
    axes.set_xlabel(word)
    if unit_s == 3600:
        axes.xaxis.set_major_locator(MultipleLocator(3 if window_s <= DAY_S else 24))


def _longest_s(lines: Sequence[Curve]) -> float:
    return max(look.run.window_s for look, _, _ in lines)


def _along(axes: Axes, lines: Sequence[Curve], window_s: float) -> list[Spot]:
    """What all lines are, at places along the axis."""
    unit_s, _ = time_unit(window_s)
    edges = np.linspace(0, window_s, min(MOST_STRIPS, max(len(x) for _, x, _ in lines)) + 1)
    spots = []
    for left, right in pairwise(edges):
        at = (left + right) / 2
        texts = [f"{look.name}: {number(_near(at, x, y))}" for look, x, y in lines]
        spots.append(Spot(axes, "\n".join([moment(at, window_s), *texts]), left / unit_s, right=right / unit_s))
    return spots


def _near(at: float, x: FloatArray, y: FloatArray) -> float:
    return float(y[np.abs(x - at).argmin()]) if len(x) else float("nan")


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
