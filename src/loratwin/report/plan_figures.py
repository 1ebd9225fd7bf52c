"""The figures of a plan's report. Each function draws one and returns it as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from loratwin.formatting import milliseconds, number, share
from loratwin.metrics import Slo
from loratwin.plan import Candidate
from loratwin.plan.choice import frontier
from loratwin.plan.limits import FARTHEST, STEP
from loratwin.plan.sentences import margin_text, status
from loratwin.records import Run, StepSeries
from loratwin.records.columns import FloatArray, IntArray
from loratwin.report.run_axes import moment, time_axis, time_unit
from loratwin.report.svg import (
    BLUE,
    BROWN,
    GREEN,
    MOST_STRIPS,
    MUTED,
    ORANGE,
    PAPER,
    PINK,
    PURPLE,
    RED,
    STYLE,
    Spot,
    css_colour,
    inline_svg,
)  # fmt: skip

SIZE = (4.7, 2.75)  # inches
WIDE = (9.6, 2.5)

_BINS = 240

Value = Callable[[Candidate], float]


@dataclass(frozen=True)
class Shown:
    """What all figures of a plan have in common: the configurations that start, the chosen one, the SLO."""

    candidates: tuple[Candidate, ...]
    best: Candidate | None
    slo: Slo | None = None

    @property
    def colours(self) -> dict[int, str]:
        """A colour for each `max_num_seqs`; that of the chosen one is blue."""
        first = [self.best.config.max_num_seqs] if self.best is not None else []
        others = sorted({each.config.max_num_seqs for each in self.candidates} - set(first))
        palette = (BLUE, GREEN, PURPLE, ORANGE, PINK, BROWN)
        return {number: palette[i % len(palette)] for i, number in enumerate([*first, *others])}

    @property
    def keys(self) -> dict[int, str]:
        """For the legend: the colour of each `max_num_seqs`, by the page's name of it."""
        return {number: css_colour(colour) for number, colour in sorted(self.colours.items())}


def starting(candidates: Sequence[Candidate], best: Candidate | None, slo: Slo | None) -> Shown:
    """The configurations that start, by slots and `max_num_seqs`."""
    order = sorted(candidates, key=lambda each: (each.config.max_num_seqs, each.slots))
    return Shown(tuple(each for each in order if each.starts), best, slo)


def by_slots(shown: Shown) -> list[str]:
    """Throughput, latencies and KV memory of every configuration against its slots, a line for each `max_num_seqs`."""
    if not shown.candidates:
        return []
    return [
        _throughput(shown),
        _latency(shown, "ttft", "Time to first token, mean", "ttft_mean"),
        _latency(shown, "ttft-tail", "Time to first token, p99", "ttft_p99"),
        _latency(shown, "tokens", "Time per token, mean", "tpot_mean"),
        _latency(shown, "gaps", "Gaps between tokens, p99", "itl_p99"),
        _kv_tokens(shown),
    ]


def frontier_figures(shown: Shown) -> list[str]:
    """Latency against throughput, and against the margin; the configurations that no other one beats stand out."""
    if len(shown.candidates) < 2:
        return []
    panels: list[tuple[str, str, Value, Callable[[float], str]]] = [
        ("frontier-throughput", "Throughput, tokens/s", lambda each: each.throughput, lambda value: f"{value:,.6g}"),
        ("frontier-margin", "Margin: how far all rates can grow", _growth, lambda value: f"{value:+.0f} %"),
    ]
    return [_frontier(shown, *panel) for panel in panels if any(isfinite(panel[2](each)) for each in shown.candidates)]


def over_time(run: Run) -> str:
    """Running and waiting requests, and the share of the KV memory in use, over the window."""
    assert run.steps is not None and run.kv_tokens, "a simulated run keeps its steps"
    unit_s, _ = time_unit(run.window_s)
    times = (np.arange(_BINS) + 0.5) * run.window_s / _BINS / unit_s
    used = 100 * binned(run.steps, run.steps.kv_blocks, run.window_s) * run.config.block_size / run.kv_tokens
    requests = {
        "running": binned(run.steps, run.steps.running, run.window_s),
        "waiting": binned(run.steps, run.steps.waiting, run.window_s),
    }
    with rc_context(STYLE):
        figure, (left, right) = _figure(WIDE, 2)
        for (label, line), colour in zip(requests.items(), (BLUE, ORANGE), strict=True):
            left.plot(times, line, color=colour, linewidth=1.3, label=label)
        _legend(left)
        left.set_title("Requests")
        right.plot(times, used, color=BLUE, linewidth=1.3)
        right.set_title("KV memory in use, %")
        for axes, most in ((left, None), (right, 100)):
            axes.set_ylim(0, most)
            time_axis(axes, run.window_s)
        spots = [*_strips(left, run, requests), *_strips(right, run, {"KV memory in use, %": used})]
        words = "Running and waiting requests and KV memory in use over the window."
        return inline_svg(figure, "time", words, spots)


def _strips(axes: Axes, run: Run, lines: Mapping[str, FloatArray]) -> list[Spot]:
    """What the lines are along the axis."""
    unit_s, _ = time_unit(run.window_s)
    width_s, every = run.window_s / _BINS, _BINS // MOST_STRIPS
    spots = []
    for i in range(0, _BINS, every):
        values = [f"{name}: {number(float(line[i : i + every].mean()))}" for name, line in lines.items()]
        text = "\n".join([moment((i + every / 2) * width_s, run.window_s), *values])
        spots.append(Spot(axes, text, i * width_s / unit_s, right=(i + every) * width_s / unit_s))
    return spots


def binned(steps: StepSeries, values: FloatArray | IntArray, window_s: float, num_bins: int = _BINS) -> FloatArray:
    """Time-weighted mean of a step's figure in equal parts of the window; 0 while the engine is idle."""
    ends_s = steps.start_s + steps.duration_s
    times_s = np.stack([steps.start_s, ends_s], axis=1).ravel()
    area = np.concatenate([[0.0], np.cumsum(values * steps.duration_s)])
    areas = np.stack([area[:-1], area[1:]], axis=1).ravel()
    edges_s = np.linspace(0, window_s, num_bins + 1)
    means: FloatArray = np.diff(np.interp(edges_s, times_s, areas)) / (window_s / num_bins)
    return means


def _throughput(shown: Shown) -> str:
    with rc_context(STYLE):
        figure, (axes,) = _figure(SIZE)
        spots = _plot(axes, shown, lambda each: each.throughput, number)
        offered = shown.candidates[0].mean("offered_throughput")
        _line(axes, offered, "offered", MUTED)
        axes.set_ylim(0, 1.12 * _most([offered, *(each.throughput for each in shown.candidates)]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        _finish(axes, shown, "Throughput, tokens/s")
        return inline_svg(figure, "throughput", "Simulated throughput against the number of slots.", spots)


def _latency(shown: Shown, name: str, title: str, key: str) -> str:
    """A latency with its limit, if it has one."""
    limits_ms = _limits_ms(shown, key)
    with rc_context(STYLE):
        figure, (axes,) = _figure(SIZE)
        spots = _plot(axes, shown, lambda each: each.mean(f"{key}_ms"), milliseconds)
        for limit_ms in limits_ms:
            _line(axes, limit_ms, "SLO", RED)
        known = [value for each in shown.candidates if (value := each.mean(f"{key}_ms")) > 0] + limits_ms
        if known and max(known) > 8 * min(known):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(known) < 50 * min(known) else (1,)))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.set_ylim(0, 1.15 * _most(known))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: milliseconds(value)))
        _finish(axes, shown, title)
        return inline_svg(figure, name, f"Simulated {title.lower()} against the number of slots.", spots)


def _limits_ms(shown: Shown, key: str) -> list[float]:
    """Where the twin's figure is at the limit: of a percentile, where a real run's is."""
    places_ms = []
    for limit in (each for each in (shown.slo.limits if shown.slo else ()) if each.name == key):
        at = shown.best or next((each for each in shown.candidates if limit.name in each.slo_s), None)
        known = at is not None and at.slo_s[limit.name].mean > 0
        ratio = at.reached_s(limit) / at.slo_s[limit.name].mean if at is not None and known else 1.0
        places_ms.append(1e3 * limit.limit_s / ratio)
    return places_ms


def _kv_tokens(shown: Shown) -> str:
    def text(value: float) -> str:
        return f"{value / 1000:,.0f}k" if value else "0"

    with rc_context(STYLE):
        figure, (axes,) = _figure(SIZE)
        spots = _plot(axes, shown, lambda each: float(each.kv_tokens), number)
        axes.set_ylim(0, 1.12 * _most([each.kv_tokens for each in shown.candidates]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
        _finish(axes, shown, "KV tokens that the slots leave")
        return inline_svg(figure, "memory", "KV tokens that are left against the number of slots.", spots)


def _frontier(shown: Shown, name: str, title: str, value: Value, text: Callable[[float], str]) -> str:
    unbeaten = frontier(shown.candidates)
    with rc_context(STYLE):
        figure, (axes,) = _figure((SIZE[0], 3.1))
        dots = [each for each in shown.candidates if each.latency_ms > 0 and isfinite(value(each))]
        for each in dots:
            _dot(axes, shown, each, each.latency_ms, value(each), faint=each not in unbeaten)
        if shown.best in dots and shown.best is not None:
            _ring(axes, shown.best.latency_ms, value(shown.best))
        _log_axis(axes, [each.latency_ms for each in dots])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda each, _: text(each)))
        axes.set_xlabel("end to end, mean")
        axes.set_title(title)
        spots = [Spot(axes, _says(shown, each), each.latency_ms, value(each)) for each in dots]
        return inline_svg(figure, name, f"{title} against mean end-to-end latency of every configuration.", spots)


def _growth(candidate: Candidate) -> float:
    """The margin in per cent, at least the lowest that is tried."""
    return 100 * (max(candidate.margin, STEP**-FARTHEST) - 1) if not isnan(candidate.margin) else candidate.margin


def _log_axis(axes: Axes, values: Sequence[float]) -> None:
    axes.set_xscale("log")
    if values:
        low, high = 0.8 * min(values), 1.25 * max(values)
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: milliseconds(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _figure(size: tuple[float, float], columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _plot(axes: Axes, shown: Shown, value: Value, text: Callable[[float], str]) -> list[Spot]:
    """A line for each `max_num_seqs` with a dot for each configuration, and a ring around the chosen one."""
    for sequences, colour in reversed(shown.colours.items()):  # the chosen one above the others
        line = [each for each in shown.candidates if each.config.max_num_seqs == sequences]
        axes.plot([each.slots for each in line], [value(each) for each in line], color=colour, linewidth=1.5)
        for each in line:
            _dot(axes, shown, each, each.slots, value(each))
    if shown.best is not None and not isnan(value(shown.best)):
        axes.axvline(shown.best.slots, color=MUTED, linewidth=1)
        _ring(axes, shown.best.slots, value(shown.best))
    known = [each for each in shown.candidates if not isnan(value(each))]
    return [Spot(axes, f"{text(value(each))}\n{_says(shown, each)}", each.slots, value(each)) for each in known]


def _dot(axes: Axes, shown: Shown, candidate: Candidate, x: float, y: float, faint: bool = False) -> None:
    """Filled where it keeps up, hollow where it starves, a red cross where it misses the SLO."""
    colour = shown.colours[candidate.config.max_num_seqs]
    if not candidate.starved and candidate.misses_slo(shown.slo):
        axes.plot(x, y, "X", markersize=6.5, markerfacecolor=RED, markeredgecolor=PAPER, markeredgewidth=0.6)
        return
    face = PAPER if candidate.starved else colour
    axes.plot(x, y, "o", markersize=4.5, markerfacecolor=face, markeredgecolor=colour, alpha=0.4 if faint else 1.0)


def _ring(axes: Axes, x: float, y: float) -> None:
    axes.plot(x, y, "o", markersize=11, markerfacecolor="none", markeredgecolor=BLUE)


def _says(shown: Shown, candidate: Candidate) -> str:
    """A configuration in a few lines."""
    chosen = shown.best is not None and candidate.config == shown.best.config
    state = "chosen" if chosen else status(candidate, shown.slo) or "works"
    margin = f", margin {margin_text(candidate.margin)}" if not isnan(candidate.margin) else ""
    used = candidate.mean("kv_usage_max")
    return (
        f"{candidate.slots} slots, max_num_seqs {candidate.config.max_num_seqs}: {state}\n"
        f"{number(candidate.throughput)} tokens/s{margin}\n"
        f"TTFT {milliseconds(candidate.mean('ttft_mean_ms'))}, p99 {milliseconds(candidate.mean('ttft_p99_ms'))}; "
        f"TPOT {milliseconds(candidate.mean('tpot_mean_ms'))}\n"
        f"end to end {milliseconds(candidate.latency_ms)}; KV used at most {share(used)}"
    )


def _line(axes: Axes, height: float, word: str, colour: str) -> None:
    """A limit with its name."""
    axes.axhline(height, color=colour, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(0.01, height, word, transform=axes.get_yaxis_transform(), va="bottom", color=colour, fontsize=9)


def _most(values: Sequence[float]) -> float:
    """The largest that is known; 1 where none is, so that an axis has an end."""
    return max((value for value in values if value > 0), default=1.0)


def _legend(axes: Axes) -> None:
    """Right of the title, without moving the axes."""
    legend = axes.legend(loc="lower right", ncols=2, borderaxespad=0, bbox_to_anchor=(1, 1.0), handlelength=1.2)
    legend.set_in_layout(False)


def _finish(axes: Axes, shown: Shown, title: str) -> None:
    slots = sorted({each.slots for each in shown.candidates})
    axes.set_title(title)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("slots")
    axes.set_xlim(slots[0] / 2**0.3, slots[-1] * 2**0.3)
    ticks = _ticks(slots, shown.best.slots if shown.best else None)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def _ticks(slots: Sequence[int], chosen: int | None) -> list[int]:
    """The chosen one, then others by turns that leave room between each other."""
    kept = [] if chosen is None else [chosen]
    for tick in sorted(slots, key=lambda slot: (slot & (slot - 1) != 0, slot)):  # powers of two first
        if all(max(tick, other) / min(tick, other) > 1.3 for other in kept):
            kept.append(tick)
    return sorted(kept)
