"""Distributions of runs: latencies, gaps, the send lag, and each adapter of one run against the same of another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.ticker import FuncFormatter, NullFormatter

from loratwin.formatting import number
from loratwin.metrics import ClientAdapterFigures, client_per_adapter, e2e_s, lag_s, tpot_s, ttft_s
from loratwin.metrics.gaps import gaps_per_step
from loratwin.metrics.latency import finished_only
from loratwin.records import Run
from loratwin.records.columns import FloatArray
from loratwin.report.looks import Look, named
from loratwin.report.run_axes import cumulative, edges_s, log_ticks, middles, new_axes, over_time
from loratwin.report.svg import GRID, STYLE, Spot, inline_svg

POINTS = 250
SQUARE = (4.7, 3.6)  # inches

Line = tuple[FloatArray, FloatArray]


def distributions(shown: Sequence[Look]) -> list[str]:
    """Shares of requests (or of gaps) that were at most so long."""
    panels: list[tuple[str, str, str, Callable[[Run], Line]]] = [
        ("cdf-ttft", "Time to first token", "requests", lambda run: _cdf(ttft_s(finished_only(run)))),
        ("cdf-tpot", "Time per output token (TPOT)", "requests", lambda run: _cdf(tpot_s(finished_only(run)))),
        ("cdf-itl", "Gaps between tokens (ITL)", "gaps", _gap_cdf),
        ("cdf-e2e", "End to end", "requests", lambda run: _cdf(e2e_s(finished_only(run)))),
    ]
    drawn = [(name, title, what, [(look, *values(look.run)) for look in shown]) for name, title, what, values in panels]
    return [
        cumulative(name, title, curves, what)
        for name, title, what, curves in drawn
        if any((x > 0).any() for _, x, _ in curves)  # else a logarithmic axis has nothing to show
    ]


def lag(shown: Sequence[Look]) -> list[str]:
    """How late requests were sent: over the window (median and 99th percentile), and its distribution."""
    known = [look for look in shown if not np.isnan(lag_s(look.run)).all()]
    if not known:
        return []
    edges = edges_s(known)
    lines = [
        (look, middles(edges), 1e3 * _lag_percentile(look.run, edges, percent))
        for look in known
        for percent in (50, 99)
    ]
    spread = [(look, *_cdf(np.maximum(lag_s(look.run), 1e-6))) for look in known]
    return [
        over_time("lag-time", "Send lag, ms: median and 99th percentile", lines, log=True),
        cumulative("lag-cdf", "Send lag", spread, "requests"),
    ]


def _lag_percentile(run: Run, edges: FloatArray, percent: float) -> FloatArray:
    """Of the requests scheduled in each part; at least a microsecond, for a logarithmic axis."""
    late, due = lag_s(run), run.requests.scheduled_s
    assert due is not None, "a lag is against a schedule"
    known = ~np.isnan(late)
    part = np.searchsorted(edges, due[known], side="right") - 1
    parts = [late[known][part == i] for i in range(len(edges) - 1)]
    return np.array([max(float(np.percentile(lags, percent)), 1e-6) if len(lags) else np.nan for lags in parts])


def _cdf(seconds: FloatArray) -> Line:
    """Milliseconds, and the share of the values up to each; at most POINTS of them."""
    known = np.sort(seconds[~np.isnan(seconds)])
    if not len(known):
        return np.array([]), np.array([])
    rows = np.unique(np.linspace(0, len(known) - 1, POINTS).round().astype(np.int64))
    return 1e3 * known[rows], (rows + 1) / len(known)


def _gap_cdf(run: Run) -> Line:
    """From the client's histogram, else from the engine's steps."""
    if run.gaps is not None:
        values, counts = run.gaps.middle_s, run.gaps.counts.sum(axis=0)
    elif run.steps is not None and len(run.steps):
        order = np.argsort(run.steps.duration_s)
        values, counts = run.steps.duration_s[order], gaps_per_step(run, run.steps)[order]
    else:
        return np.array([]), np.array([])
    values, counts = values[counts > 0], counts[counts > 0]
    if not len(counts):
        return np.array([]), np.array([])
    share = np.cumsum(counts) / counts.sum()
    rows = np.unique(np.searchsorted(share, np.linspace(0, share[-1], POINTS)).clip(max=len(share) - 1))
    return 1e3 * values[rows], share[rows]


def scatter(one: Look, other: Look) -> list[str]:
    """Each adapter as a dot: the mean TTFT and the tokens served of one run against those of another."""
    figures = client_per_adapter(one.run), client_per_adapter(other.run)
    return [
        _scatter("dots-ttft", "Mean TTFT of each adapter, ms", one, other, _paired(*figures, "ttft_mean_ms")),
        _scatter("dots-tokens", "Tokens/s served of each adapter", one, other, _paired(*figures, "throughput")),
    ]


def _scatter(name: str, title: str, one: Look, other: Look, dots: Sequence[Dot]) -> str:
    x, y = np.array([dot.x for dot in dots]), np.array([dot.y for dot in dots])
    with rc_context(STYLE):
        figure, axes = new_axes(SQUARE)
        axes.plot(x, y, "o", color=other.colour, markersize=3.4, markeredgewidth=0, alpha=0.6)
        values = np.concatenate([x, y])
        limits = (0.8 * float(values.min()), 1.25 * float(values.max())) if len(values) else (1.0, 10.0)
        axes.fill_between(limits, [0.9 * end for end in limits], [1.1 * end for end in limits], color=GRID, zorder=0)
        axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits, title=title)
        axes.set(xlabel=named(one), ylabel=named(other))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(log_ticks(np.array(limits)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            axis.set_minor_formatter(NullFormatter())
        words = f"{title}: {other.name} ({other.run.kind}) against {one.name} ({one.run.kind}); band of 10 %."
        spots = [
            Spot(axes, f"{dot.name}\n{one.name}: {number(dot.x)}\n{other.name}: {number(dot.y)}", dot.x, dot.y)
            for dot in dots
        ]
        return inline_svg(figure, name, words, spots)


class Dot(NamedTuple):
    """An adapter, and its figure in two runs."""

    name: str
    x: float
    y: float


def _paired(one: ClientAdapterFigures, other: ClientAdapterFigures, key: str) -> list[Dot]:
    """The figure of every adapter that both know, where it is above 0."""
    first, second = (
        {name: float(getattr(figures, key)[i]) for i, name in enumerate(figures.name)} for figures in (one, other)
    )
    dots = [Dot(name, first[name], second[name]) for name in first if name in second]
    return [dot for dot in dots if dot.x > 0 and dot.y > 0]
