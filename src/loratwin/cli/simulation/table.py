"""The tables of `loratwin simulate`. Names of users are shown as text, never as markup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from math import floor, isnan, log10

import numpy as np
from rich.box import ASCII, SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loratwin.cli.simulation.report import Column, Report, adapter_rows
from loratwin.metrics import Interval
from loratwin.simulate import each_once, time_series

Cell = Callable[[Column], Text]

_LEAST_WIDTH, _FIGURE_WIDTH, _COLUMN_WIDTH = 120, 34, 26
_NAMES_SHOWN = 8


def print_report(report: Report) -> None:
    """Print everything that was asked for."""
    console = _console(len(report.columns))
    for line in _heading(report):
        console.print(Text(line), soft_wrap=True)
    console.print(_figures(report, console))
    _print_remarks(console, report.columns)
    for column in report.columns:
        if column.first is not None and report.series:
            _print_series(console, column)
        if column.first is not None and report.adapters:
            _print_adapters(console, column)


def _console(num_columns: int) -> Console:
    """As wide as the terminal; in a pipe as wide as the table."""
    console = Console(highlight=False)
    if console.is_terminal:
        return console
    return Console(highlight=False, width=max(_LEAST_WIDTH, _FIGURE_WIDTH + _COLUMN_WIDTH * num_columns))


def _is_unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


def _heading(report: Report) -> list[str]:
    spec, config = report.spec, report.columns[0].config
    seeds = f"seed {report.seeds[0]}" if len(report.seeds) == 1 else f"seeds {report.seeds[0]} to {report.seeds[-1]}"
    model_len = config.max_model_len or f"{report.profile.llm.max_model_len} (the LLM's)"
    return [
        f"{report.workload}: {spec.num_adapters} adapters, {spec.total_rate_per_s:.4g} requests/s, "
        f"{spec.window_s:g} s, {seeds}",
        f"{report.profile.name}, simulated",
        f"max_lora_rank {config.max_lora_rank}, max_num_seqs {config.max_num_seqs}, "
        f"max_num_batched_tokens {config.max_num_batched_tokens}, max_model_len {model_len}, "
        f"gpu_memory_utilization {config.gpu_memory_utilization:g}",
    ]


# --- the table of figures


def _figures(report: Report, console: Console) -> Table:
    table = Table(box=SIMPLE_HEAD if _is_unicode(console) else ASCII, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in report.columns:
        table.add_column(f"max_loras {column.config.max_loras}", justify="right")
    sign = "±" if _is_unicode(console) else "+-"
    rows = _rows(report, sign)
    for i, (name, cell) in enumerate(rows):
        table.add_row(name, *(cell(column) for column in report.columns), end_section=_ends_section(rows, i))
    return table


def _ends_section(rows: Sequence[tuple[str, Cell]], i: int) -> bool:
    """The interval below a figure belongs to its section."""
    if i + 1 < len(rows) and rows[i + 1][0].startswith(_INTERVAL):
        return False
    return rows[i - rows[i][0].startswith(_INTERVAL)][0] in _SECTION_ENDS


_INTERVAL = "  "  # names of such rows begin with it
_SECTION_ENDS = {"requests/s", "end to end p99", "queueing delay, mean", "swap-ins", "unfinished", "starved"}

_THROUGHPUT = (
    ("input tokens/s", "input_throughput"), ("output tokens/s", "output_throughput"),
    ("total tokens/s", "total_throughput"), ("offered tokens/s", "offered_throughput"),
    ("requests/s", "request_throughput"),
)  # fmt: skip
_LATENCY = (
    *((f"TTFT {name}", f"ttft_{name}_ms") for name in ("mean", "median", "p90", "p99")),
    *((f"TPOT {name}", f"tpot_{name}_ms") for name in ("mean", "median", "p99")),
    *((f"ITL {name}", f"itl_{name}_ms") for name in ("mean", "median", "p99")),
    *((f"end to end {name}", f"e2e_{name}_ms") for name in ("mean", "median", "p99")),
    ("queueing delay, mean", "queueing_mean_ms"),
)
_COUNTS = (
    ("preemptions", "preemptions"), ("disk loads", "disk_loads"), ("swap-ins", "swap_ins"), ("arrived", "arrived"),
    ("finished", "completed"), ("refused", "refused"), ("unfinished", "censored"),
)  # fmt: skip


def _rows(report: Report, sign: str) -> list[tuple[str, Cell]]:
    """Name and cell of each row."""
    figures = {id(column): column.figures() for column in report.columns}

    def cell(name: str, show: Callable[[Interval, str], str]) -> Cell:
        return lambda column: _started(column, lambda: show(figures[id(column)][name], sign))

    rows: list[tuple[str, Cell]] = [("starved", lambda column: _started(column, lambda: _verdict(column)))]
    rows += _with_intervals(report, [(title, name, cell(name, _plain)) for title, name in _THROUGHPUT])
    rows += _with_intervals(report, [(title, name, cell(name, _milliseconds)) for title, name in _LATENCY])
    for title, stem, show in (
        ("running", "running", _plain),
        ("waiting", "waiting", _plain),
        ("KV", "kv_usage", _share),
    ):
        rows += [(f"{title}, {which}", cell(f"{stem}_{which}", show)) for which in ("mean", "max")]
    rows.append(("KV tokens", lambda column: Text(f"{column.kv_tokens:,}")))
    rows += [(title, cell(name, _plain)) for title, name in _COUNTS]
    return rows + _slo_rows(report, sign)


def _with_intervals(report: Report, rows: Sequence[tuple[str, str, Cell]]) -> list[tuple[str, Cell]]:
    """Below each row that has one, where a real run will lie."""
    forecasts = [column.forecast for column in report.columns if column.forecast is not None]
    shown: list[tuple[str, Cell]] = []
    for title, name, cell in rows:
        shown.append((title, cell))
        if any(name in each.intervals for each in forecasts):
            shown.append((f"{_INTERVAL}{forecasts[0].level * 100:.0f} % of real runs", _interval_cell(name)))
    return shown


def _interval_cell(name: str) -> Cell:
    def cell(column: Column) -> Text:
        found = None if column.forecast is None else column.forecast.intervals.get(name)
        if found is None:
            return Text("-")
        low, high = (Interval(value, float("nan"), 1, found.level) for value in (found.low, found.high))
        show = _milliseconds if name.endswith("_ms") else _plain
        return Text(f"{show(low, '')} to {show(high, '')}")

    return cell


def _started(column: Column, text: Callable[[], str | Text]) -> Text:
    if column.reason:
        return Text("does not start", style="red")
    shown = text()
    return shown if isinstance(shown, Text) else Text(shown)


def _verdict(column: Column) -> Text:
    if not column.num_starved:
        return Text("no", style="green")
    reasons = {summary.starved_reason for summary in column.summaries} - {""}
    runs = f" in {column.num_starved} of {len(column.outcomes)} runs" if len(column.outcomes) > 1 else ""
    return Text(f"YES{runs}: {', '.join(sorted(reasons))}", style="red")


def _slo_rows(report: Report, sign: str) -> list[tuple[str, Cell]]:
    if report.slo is None:
        return []

    def reached(column: Column, name: str, limit_s: float) -> Text:
        figure = column.slo_s()[name]
        met = figure.mean <= limit_s
        shown = _milliseconds(Interval(figure.mean * 1e3, figure.half_width * 1e3, figure.count, figure.level), sign)
        return Text(f"{shown} {'met' if met else 'MISSED'}", style="green" if met else "red")

    def row(name: str, limit_s: float) -> Cell:
        return lambda column: _started(column, lambda: reached(column, name, limit_s))

    rows = [(f"SLO {limit}", row(limit.name, limit.limit_s)) for limit in report.slo.limits]
    return [*rows, ("goodput, requests/s", lambda c: _started(c, lambda: _plain(c.goodput(), sign)))]


def _number(value: float) -> str:
    """Four digits where there are so many to trust."""
    if isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def _with_half_width(figure: Interval, sign: str, scale: float = 1.0) -> str:
    """The half-width to two digits, the mean to as many places."""
    mean, half = figure.mean / scale, figure.half_width / scale
    if isnan(half) or half == 0:
        return _number(mean)
    places = max(0, 1 - floor(log10(half)))
    return f"{mean:,.{places}f} {sign} {half:,.{places}f}"


def _plain(figure: Interval, sign: str) -> str:
    return _with_half_width(figure, sign)


def _milliseconds(figure: Interval, sign: str) -> str:
    if isnan(figure.mean):
        return "-"
    unit, scale = ("s", 1e3) if figure.mean >= 10_000 else ("ms", 1.0)
    return f"{_with_half_width(figure, sign, scale)} {unit}"


def _share(figure: Interval, sign: str) -> str:
    return "-" if isnan(figure.mean) else f"{_with_half_width(figure, sign, 0.01)} %"


# --- below the table


def _print_remarks(console: Console, columns: Sequence[Column]) -> None:
    """Why a server does not start, who starves, and what the figures are not to be trusted in."""
    common = set.intersection(*(set(column.notes) for column in columns if not column.reason))
    for column in columns:
        name = f"max_loras {column.config.max_loras}"
        if column.reason:
            _say(console, f"{name}: {column.reason} ({column.kv_tokens:,} KV tokens)", "red")
        if column.starving:
            _say(console, f"{name}: {_starving(column)}", "red")
        for note in column.notes:
            if note not in common:
                _say(console, f"{name}: {note}", "yellow")
    said = each_once(note for column in columns for note in column.notes)
    of_forecasts = (note for column in columns if column.forecast for note in column.forecast.notes)
    for note in each_once((*said, *of_forecasts))[len(said) :]:
        _say(console, note, "yellow")
    for note in dict.fromkeys(note for column in columns for note in column.notes):
        if note in common:
            _say(console, note, "yellow")


def _say(console: Console, line: str, style: str) -> None:
    console.print(Text(line, style=style), soft_wrap=True)


def _starving(column: Column) -> str:
    names = list(column.starving)
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    verb = "starves" if len(names) == 1 else "starve"
    return f"{len(names)} of {column.num_adapters} {verb}: {', '.join(names[:_NAMES_SHOWN])}{more}"


def _print_adapters(console: Console, column: Column) -> None:
    assert column.first is not None
    table = Table(
        title=Text(f"adapters with max_loras {column.config.max_loras}, seed {column.seeds[0]}; tokens per second"),
        title_justify="left",
        box=SIMPLE_HEAD if _is_unicode(console) else ASCII,
        pad_edge=False,
    )
    table.add_column("adapter", overflow="fold")
    for name in ("requests", "finished", "offered/s", "served/s", "share", "TTFT mean", "p50", "p99", ""):
        table.add_column(name, justify="right")
    for row in adapter_rows(column.first):
        name, requests, done, offered, served, share, *latencies, starved = row.values()
        shown = [_number(_nan(value)) for value in (requests, done, offered, served)]
        shown += [_percent(_nan(share)), *(_milliseconds(_single(_nan(value)), "") for value in latencies)]
        table.add_row(Text(name), *shown, Text("starves", style="red") if starved else "")
    console.print(table)


def _percent(share: float) -> str:
    return "-" if isnan(share) else f"{share * 100:.3g} %"


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _single(value: float) -> Interval:
    return Interval(value, float("nan"), 1, 0.95)


_SERIES_FIGURES = 48
"""Characters of a line beside the sparkline."""

_SERIES_TITLES = {
    "running": "running", "waiting": "waiting", "kv_usage": "KV use", "distinct_adapters": "distinct adapters",
    "swap_ins_per_s": "swap-ins/s", "throughput": "total tokens/s",
}  # fmt: skip


def _print_series(console: Console, column: Column) -> None:
    assert column.first is not None
    series = time_series(column.first, parts=max(10, min(60, console.width - _SERIES_FIGURES)))
    table = Table(
        title=Text(f"over {column.first.window_s:g} s with max_loras {column.config.max_loras}"),
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name, justify in (("", "left"), ("", "left"), ("least", "right"), ("mean", "right"), ("most", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for name in (item.name for item in fields(series) if item.name != "end_s"):
        values = getattr(series, name)
        ends = [_number(float(value)) for value in (values.min(), values.mean(), values.max())]
        table.add_row(_SERIES_TITLES[name], sparkline(values, _is_unicode(console)), *ends)
    console.print(table)


def sparkline(values: Sequence[float] | np.ndarray, unicode: bool = True) -> str:
    """One character for each value, from 0 to the largest."""
    levels = "▁▂▃▄▅▆▇█" if unicode else "_.-=+*#@"
    highest = float(np.max(values, initial=0.0))
    scale = (len(levels) - 1) / highest if highest > 0 else 0.0
    return "".join(levels[round(float(value) * scale)] for value in values)
