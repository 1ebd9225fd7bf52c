"""Scatter plots of the accuracy report: predicted against measured, on logarithmic axes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from loratwin.report.svg import GRID, STYLE, inline_svg
from loratwin.validate.crossval import Validation
from loratwin.validate.scores import measured_value, regime

COLOURS = {"open": "#0072b2", "saturated": "#d55e00"}  # Okabe and Ito: told apart by every eye
BAND = 0.10


def scatter(v: Validation, metric: str, label: str, unit: str) -> str:
    """Predicted against measured as inline SVG; the band is +- 10 %."""
    with rc_context(STYLE):
        figure = Figure(figsize=(4.2, 3.9), layout="constrained")
        axes = figure.subplots()
        everything: list[float] = []
        for name, colour in COLOURS.items():
            x, y = _points(v, metric, name)
            everything += x + y
            axes.plot(x, y, "o", color=colour, markersize=3.2, markeredgewidth=0, alpha=0.55, label=name)
        limits = [0.8 * min(everything, default=1.0), 1.25 * max(everything, default=1.0)]
        axes.fill_between(
            limits, [(1 - BAND) * v for v in limits], [(1 + BAND) * v for v in limits], color=GRID, zorder=0
        )
        axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits, aspect="equal")
        axes.set(xlabel=f"measured, {unit}", ylabel=f"predicted, {unit}", title=label)
        _plain_decades(axes)
        axes.legend(loc="upper left")
    return inline_svg(figure, f"scatter-{metric}", f"{label}: predicted against measured, band of 10 %")


def _plain_decades(axes: Axes) -> None:
    """One labelled tick a decade, as 10k and not as a power in mathematical type."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(10))
        axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _points(v: Validation, metric: str, name: str) -> tuple[list[float], list[float]]:
    pairs: Sequence[tuple[float, float]] = [
        (measured_value(run, metric), getattr(p, metric))
        for run, p in zip(v.runs, v.predictions, strict=True)
        if run.measured and regime(run) == name
    ]
    kept = [(x, y) for x, y in pairs if x > 0 and y > 0]
    return [x for x, _ in kept], [y for _, y in kept]
