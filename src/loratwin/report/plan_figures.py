"""The figures of a plan's report. Each function draws one and returns it as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from loratwin.formatting import milliseconds, number
from loratwin.plan import Candidate
from loratwin.records import Run, StepSeries
from loratwin.records.columns import FloatArray, IntArray
from loratwin.report.svg import MUTED, STYLE, inline_svg

BLUE, ORANGE, GREEN = "#0072b2", "#c25400", "#007a5a"  # Okabe and Ito's, darkened to be read as text on white
STARVED = "#c25400"

SIZE = (4.7, 2.75)  # inches
WIDE = (9.6, 2.5)

_BINS = 240

Value = Callable[[Candidate], float]


def by_slots(candidates: Sequence[Candidate], best: Candidate | None) -> list[str]:
    """Throughput, time to first token, time per token and KV memory against slots."""
    shown = sorted((candidate for candidate in candidates if candidate.starts), key=lambda candidate: candidate.slots)
    if not shown:
        return []
    return [
        _throughput(shown, best),
        _lines(shown, best, "ttft", "Time to first token", [("mean", _ttft_mean, BLUE), ("p99", _ttft_p99, GREEN)]),
        _lines(shown, best, "tokens", "Time per token", [("TPOT", _tpot, BLUE), ("ITL p99", _itl_p99, GREEN)]),
        _kv_tokens(shown, best),
    ]


def over_time(run: Run) -> str:
    """Running and waiting requests, and the share of the KV memory in use, over the window."""
    assert run.steps is not None and run.kv_tokens, "a simulated run keeps its steps"
    minutes = (np.arange(_BINS) + 0.5) * run.window_s / _BINS / 60
    used = binned(run.steps, run.steps.kv_blocks, run.window_s) * run.config.block_size / run.kv_tokens
    with rc_context(STYLE):
        figure, (left, right) = _figure(WIDE, 2)
        for values, label, colour in ((run.steps.running, "running", BLUE), (run.steps.waiting, "waiting", ORANGE)):
            line = binned(run.steps, values, run.window_s)
            left.plot(minutes, line, color=colour, linewidth=1.3, label=label)
        _legend(left)
        left.set_title("Requests")
        right.plot(minutes, 100 * used, color=BLUE, linewidth=1.3)
        right.set_ylim(0, 100)
        right.set_title("KV memory in use, %")
        for axes in (left, right):
            axes.set_ylim(bottom=0)
            axes.set_xlim(0, run.window_s / 60)
            axes.set_xlabel("minutes")
        return inline_svg(figure, "time", "Running and waiting requests and KV memory in use over the window.")


def binned(steps: StepSeries, values: FloatArray | IntArray, window_s: float, num_bins: int = _BINS) -> FloatArray:
    """Time-weighted mean of a step's figure in equal parts of the window; 0 while the engine is idle."""
    ends_s = steps.start_s + steps.duration_s
    times_s = np.stack([steps.start_s, ends_s], axis=1).ravel()
    area = np.concatenate([[0.0], np.cumsum(values * steps.duration_s)])
    areas = np.stack([area[:-1], area[1:]], axis=1).ravel()
    edges_s = np.linspace(0, window_s, num_bins + 1)
    means: FloatArray = np.diff(np.interp(edges_s, times_s, areas)) / (window_s / num_bins)
    return means


def _throughput(shown: Sequence[Candidate], best: Candidate | None) -> str:
    with rc_context(STYLE):
        figure, (axes,) = _figure(SIZE)
        _plot(axes, shown, lambda candidate: candidate.throughput, "served", BLUE)
        offered = shown[0].mean("offered_throughput")
        axes.axhline(offered, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(0.01, offered, "offered", transform=axes.get_yaxis_transform(), va="bottom", color=MUTED, fontsize=9)
        axes.set_ylim(0, 1.12 * _most([offered, *(candidate.throughput for candidate in shown)]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        _finish(axes, shown, best, "Throughput, tokens/s", lambda candidate: candidate.throughput)
        return inline_svg(figure, "throughput", "Simulated throughput against the number of slots.")


def _lines(
    shown: Sequence[Candidate],
    best: Candidate | None,
    name: str,
    title: str,
    lines: Sequence[tuple[str, Value, str]],
) -> str:
    with rc_context(STYLE):
        figure, (axes,) = _figure(SIZE)
        for label, value, colour in lines:
            _plot(axes, shown, value, label, colour)
        known = [value(candidate) for candidate in shown for _, value, _ in lines if value(candidate) > 0]
        if known and max(known) > 8 * min(known):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(known) < 50 * min(known) else (1,)))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.set_ylim(0, 1.15 * _most(known))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: milliseconds(value)))
        _legend(axes)
        _finish(axes, shown, best, title, lines[0][1])
        return inline_svg(figure, name, f"Simulated {title.lower()} against the number of slots.")


def _kv_tokens(shown: Sequence[Candidate], best: Candidate | None) -> str:
    with rc_context(STYLE):
        figure, (axes,) = _figure(SIZE)
        _plot(axes, shown, lambda candidate: candidate.kv_tokens, "available", BLUE)
        _plot(
            axes, shown, lambda candidate: candidate.kv_tokens * candidate.mean("kv_usage_max"), "used at most", GREEN
        )
        axes.set_ylim(0, 1.12 * _most([candidate.kv_tokens for candidate in shown]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:,.0f}k" if value else "0"))
        _legend(axes)
        _finish(axes, shown, best, "KV tokens", lambda candidate: candidate.kv_tokens)
        return inline_svg(figure, "memory", "KV tokens that are left, and used, against the number of slots.")


def _figure(size: tuple[float, float], columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _plot(axes: Axes, shown: Sequence[Candidate], value: Value, label: str, colour: str) -> None:
    """A line with a dot for each configuration; hollow where it starves."""
    slots = [candidate.slots for candidate in shown]
    values = [value(candidate) for candidate in shown]
    axes.plot(slots, values, color=colour, linewidth=1.5, label=label)
    for candidate, height in zip(shown, values, strict=True):
        face = "white" if candidate.starved else colour
        axes.plot(candidate.slots, height, "o", markersize=4.5, markerfacecolor=face, markeredgecolor=colour)


def _most(values: Sequence[float]) -> float:
    """The largest that is known; 1 where none is, so that an axis has an end."""
    return max((value for value in values if value > 0), default=1.0)


def _legend(axes: Axes) -> None:
    """Right of the title, without moving the axes."""
    legend = axes.legend(loc="lower right", ncols=2, borderaxespad=0, bbox_to_anchor=(1, 1.0), handlelength=1.2)
    legend.set_in_layout(False)


def _finish(axes: Axes, shown: Sequence[Candidate], best: Candidate | None, title: str, value: Value) -> None:
    """Slots on a logarithmic axis, where configurations starve, and the chosen one."""
    axes.set_title(title)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("slots (max_loras)")
    axes.set_xlim(
        _edges([candidate.slots for candidate in shown])[0], _edges([candidate.slots for candidate in shown])[-1]
    )
    ticks = _ticks([candidate.slots for candidate in shown], best.slots if best else None)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    _shade(axes, shown)
    if best is not None and not isnan(value(best)):
        axes.axvline(best.slots, color=MUTED, linewidth=1)
        axes.plot(best.slots, value(best), "o", markersize=11, markerfacecolor="none", markeredgecolor=BLUE)


def _shade(axes: Axes, shown: Sequence[Candidate]) -> None:
    edges = _edges([candidate.slots for candidate in shown])
    for i, candidate in enumerate(shown):
        if candidate.starved:
            axes.axvspan(edges[i], edges[i + 1], facecolor=STARVED, alpha=0.1, linewidth=0)


def _edges(slots: Sequence[int]) -> list[float]:
    """Halfway (by ratio) between neighbours, and as far beyond the first and the last."""
    logs = np.log2(np.asarray(slots, dtype=float))
    if len(logs) == 1:
        return [float(2 ** (logs[0] - 0.5)), float(2 ** (logs[0] + 0.5))]
    middle = (logs[1:] + logs[:-1]) / 2
    ends = np.concatenate([[2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]])
    return [float(edge) for edge in 2**ends]


def _ticks(slots: Sequence[int], chosen: int | None) -> list[int]:
    """The chosen one, then others by turns that leave room between each other."""
    kept = [] if chosen is None else [chosen]
    for tick in sorted(slots, key=lambda slot: (slot & (slot - 1) != 0, slot)):  # powers of two first
        if all(max(tick, other) / min(tick, other) > 1.3 for other in kept):
            kept.append(tick)
    return sorted(kept)


def _ttft_mean(candidate: Candidate) -> float:
    return candidate.mean("ttft_mean_ms")


def _ttft_p99(candidate: Candidate) -> float:
    return candidate.mean("ttft_p99_ms")


def _tpot(candidate: Candidate) -> float:
    return candidate.mean("tpot_mean_ms")


def _itl_p99(candidate: Candidate) -> float:
    return candidate.mean("itl_p99_ms")


def _most_used(candidate: Candidate) -> float:
    return candidate.kv_tokens * candidate.mean("kv_usage_max")
