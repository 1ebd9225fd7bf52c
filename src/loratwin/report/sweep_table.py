"""A sweep as tables for a terminal: a column for each configuration, then what a reader must know of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from math import nan

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loratwin.formatting import (
    REAL_RUN,
    SLOTS,
    UNKNOWN,
    chance_text,
    figure,
    first_of,
    milliseconds,
    number,
    plus_minus_text,
    share,
    slots_text,
    span,
)
from loratwin.metrics import Interval, Limit, is_slow
from loratwin.report.console import MOST_NAMES, as_text, box, console, knows_unicode, limited, print_adapters, say
from loratwin.simulate import Replications, Sweep, adapter_rows, each_once, time_series
from loratwin.simulate.outcome import LEVEL

Cell = Callable[[Replications], Text]

_REAL = "  in the middle of real runs"
"""Row below a limit on a percentile: what the verdict is of."""

_LEAST_WIDTH, _FIGURE_WIDTH, _COLUMN_WIDTH = 120, 34, 26


def print_sweep(sweep: Sweep, adapters: bool = False, series: bool = False) -> None:
    """Print a sweep to the terminal.

    Parameters
    ----------
    sweep
        To be shown.
    adapters
        Also each adapter in the first run of each configuration, where it was kept.
    series
        Also its course over time, where its steps were kept.
    """
    _show(console(_width(sweep)), sweep, adapters, series)


def sweep_text(sweep: Sweep, adapters: bool = False, series: bool = False) -> str:
    """What `print_sweep` prints, without colours.

    Parameters
    ----------
    sweep, adapters, series
        As there.
    """
    return as_text(lambda out: _show(out, sweep, adapters, series), _width(sweep))


def _width(sweep: Sweep) -> int:
    return max(_LEAST_WIDTH, _FIGURE_WIDTH + _COLUMN_WIDTH * len(sweep.columns))


def _show(out: Console, sweep: Sweep, adapters: bool, series: bool) -> None:
    for line in _heading(sweep):
        say(out, line)
    if sweep.columns:
        out.print(_figures(sweep, out))
        for line in _meanings(sweep, "±" if knows_unicode(out) else "+-"):
            say(out, line)
    _print_remarks(out, sweep)
    for column in sweep.columns:
        if column.runs and series:
            _print_series(out, column)
        if column.runs and adapters:
            _print_adapters(out, column)


def _heading(sweep: Sweep) -> list[str]:
    seeds = f"seed {sweep.seeds[0]}" if len(sweep.seeds) == 1 else f"seeds {sweep.seeds[0]} to {sweep.seeds[-1]}"
    size = f"{sweep.num_adapters} adapters, {number(sweep.rate_per_s)} requests/s, {sweep.window_s:g} s, {seeds}"
    return [f"{sweep.name}: {size}", f"{sweep.profile.name}, simulated", *_options(sweep)]


def _options(sweep: Sweep) -> list[str]:
    """What all columns have in common."""
    if not sweep.columns:
        return []
    config = sweep.columns[0].config
    model_len = config.max_model_len or f"{sweep.profile.llm.max_model_len} (the LLM's)"
    limits = sweep.profile.limits
    own = (config.max_num_seqs, config.max_num_batched_tokens) == (limits.max_num_seqs, limits.max_num_batched_tokens)
    whose = f" (which {sweep.profile.engine} takes unless told)" if own else ""
    return [
        f"max_lora_rank {config.max_lora_rank}, max_num_seqs {config.max_num_seqs}, "
        f"max_num_batched_tokens {config.max_num_batched_tokens}{whose}, max_model_len {model_len}, "
        f"gpu_memory_utilization {config.gpu_memory_utilization:g}"
    ]


# --- the table of figures


def _figures(sweep: Sweep, out: Console) -> Table:
    table = Table(box=box(out), pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in sweep.columns:
        table.add_column(slots_text(column.config.max_loras), justify="right")
    rows = _rows(sweep, "±" if knows_unicode(out) else "+-")
    for i, (name, cell) in enumerate(rows):
        table.add_row(name, *(cell(column) for column in sweep.columns), end_section=_ends_section(rows, i))
    return table


def _ends_section(rows: Sequence[tuple[str, Cell]], i: int) -> bool:
    """The interval below a figure belongs to its section."""
    if i + 1 < len(rows) and rows[i + 1][0].startswith(_INTERVAL):
        return False
    return rows[i - rows[i][0].startswith(_INTERVAL)][0] in _SECTION_ENDS


_PREFIX = (("prefix cache, hit rate", "prefix_hit_rate"), ("tokens from the prefix cache", "cached_tokens"))
_INTERVAL = "  "  # names of such rows begin with it
_SECTION_ENDS = {
    "requests/s",
    "end to end p99",
    "queueing delay, mean",
    "swap-ins",
    "unfinished",
    "starved",
    _PREFIX[-1][0],
}

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
_GAUGES = (
    ("running, mean", "running_mean"), ("running, max", "running_max"), ("waiting, mean", "waiting_mean"),
    ("waiting, max", "waiting_max"), ("KV, mean", "kv_usage_mean"), ("KV, max", "kv_usage_max"),
)  # fmt: skip
_COUNTS = (
    ("preemptions", "preemptions"), ("disk loads", "disk_loads"), ("swap-ins", "swap_ins"), ("arrived", "arrived"),
    ("finished", "completed"), ("refused", "refused"), ("unfinished", "censored"),
)  # fmt: skip


def _unit(name: str) -> str:
    return "ms" if name.endswith("_ms") else "share" if name.startswith(("kv_usage", "prefix")) else ""


def _rows(sweep: Sweep, sign: str) -> list[tuple[str, Cell]]:
    """Name and cell of each row."""
    figures = {id(column): column.figures() for column in sweep.columns}

    def cell(name: str) -> Cell:
        return lambda column: _started(column, lambda: _mean(figures[id(column)][name], _unit(name), sign))

    def cells(named: Sequence[tuple[str, str]]) -> list[tuple[str, Cell]]:
        return [(title, cell(name)) for title, name in named]

    return [
        ("starved", lambda column: _started(column, lambda: _verdict(column))),
        *_with_intervals(sweep, [(title, name, cell(name)) for title, name in (*_THROUGHPUT, *_LATENCY)]),
        *cells(_GAUGES),
        ("KV tokens", lambda column: Text(number(column.kv_tokens))),
        *cells(_COUNTS),
        *(cells(_PREFIX) if any(column.keeps_prefixes for column in sweep.columns) else ()),
        *_slo_rows(sweep, sign),
    ]


def _with_intervals(sweep: Sweep, rows: Sequence[tuple[str, str, Cell]]) -> list[tuple[str, Cell]]:
    """Below each row that has one, where a real run will lie."""
    forecasts = [column.forecast for column in sweep.columns if column.forecast is not None]
    shown: list[tuple[str, Cell]] = []
    for title, name, cell in rows:
        shown.append((title, cell))
        if any(name in forecast.intervals for forecast in forecasts):
            shown.append((f"{_INTERVAL}{share(forecasts[0].level)} of real runs", _interval_cell(name)))
    return shown


def _interval_cell(name: str) -> Cell:
    def cell(column: Replications) -> Text:
        interval = None if column.forecast is None else column.forecast.intervals.get(name)
        return Text(UNKNOWN if interval is None else span(interval.low, interval.high, _unit(name)))

    return cell


def _mean(interval: Interval, unit: str, sign: str) -> str:
    return figure(interval.mean, unit, interval.half_width, sign)


def _started(column: Replications, text: Callable[[], str | Text]) -> Text:
    if not column.starts:
        return Text("does not start", style="red")
    shown = text()
    return shown if isinstance(shown, Text) else Text(shown)


def _verdict(column: Replications) -> Text:
    if not column.num_starved:
        slow = is_slow(column.figures()["ttft_p99_ms"].mean)
        return Text("no, but slow", style="yellow") if slow else Text("no", style="green")
    runs = f" in {column.num_starved} of {len(column.outcomes)} runs" if len(column.outcomes) > 1 else ""
    return Text(f"YES{runs}: {', '.join(column.starved_reasons)}", style="red")


def _slo_rows(sweep: Sweep, sign: str) -> list[tuple[str, Cell]]:
    if sweep.slo is None:
        return []

    def seconds(interval: Interval) -> str:
        return figure(1e3 * interval.mean, "ms", 1e3 * interval.half_width, sign)

    def reached(column: Replications, limit: Limit) -> Text:
        twins, real = column.slo_s()[limit.name], column.real_slo_s().get(limit.name)
        return Text(seconds(twins)) if real else limited(seconds(twins), twins.mean, limit.limit_s)

    def in_reality(column: Replications, limit: Limit) -> Text:
        real = column.real_slo_s().get(limit.name)
        return limited(seconds(real), real.mean, limit.limit_s) if real else Text(UNKNOWN)

    def row(shown: Callable[[Replications, Limit], Text], limit: Limit) -> Cell:
        return lambda column: _started(column, lambda: shown(column, limit))

    corrected = {name for column in sweep.columns if column.starts for name in column.real_slo_s()}
    rows = []
    for limit in sweep.slo.limits:
        rows.append((f"SLO {limit}", row(reached, limit)))
        if limit.name in corrected:
            rows.append((_REAL, row(in_reality, limit)))
    goodput: Cell = lambda column: _started(column, lambda: _mean(column.goodput(), "", sign))  # noqa: E731
    chance: Cell = lambda column: _started(column, lambda: chance_text(column.chance))  # noqa: E731
    return [*rows, ("chance that it holds", chance), ("goodput, requests/s", goodput)]


# --- below the table


def _meanings(sweep: Sweep, sign: str) -> list[str]:
    """What slots are, and figures that are ranges."""
    levels = [column.forecast.level for column in sweep.columns if column.forecast is not None]
    of_means = [plus_minus_text(LEVEL, sign)] if len(sweep.seeds) > 1 else []
    return [SLOTS, *of_means, *(f"{share(level)} of real runs: one run each; {REAL_RUN}" for level in levels[:1])]


def _print_remarks(out: Console, sweep: Sweep) -> None:
    """Why a server does not start, who starves, and what the figures are not to be trusted in."""
    common = _common_notes(sweep.columns)
    for column in sweep.columns:
        name = slots_text(column.config.max_loras)
        if not column.starts:
            say(out, f"{name}: {column.reason} ({number(column.kv_tokens)} KV tokens)", "red")
        if column.starving:
            say(out, f"{name}: {_starving(column, sweep.num_adapters)}", "red")
        for note in column.notes:
            if note not in common:
                say(out, f"{name}: {note}", "yellow")
    for note in (*_notes_of_forecasts(sweep.columns), *common):
        say(out, note, "yellow")


def _common_notes(columns: Sequence[Replications]) -> list[str]:
    """Notes of every server that starts, in the order in which they are first said."""
    sets = [set(column.notes) for column in columns if column.starts]
    said = dict.fromkeys(note for column in columns for note in column.notes)
    return [note for note in said if sets and note in set.intersection(*sets)]


def _notes_of_forecasts(columns: Sequence[Replications]) -> tuple[str, ...]:
    """What no column says by itself."""
    said = each_once(note for column in columns for note in column.notes)
    of_forecasts = (note for column in columns if column.forecast for note in column.forecast.notes)
    return each_once((*said, *of_forecasts))[len(said) :]


def _starving(column: Replications, num_adapters: int) -> str:
    names = list(column.starving)
    verb = "starves" if len(names) == 1 else "starve"
    return f"{len(names)} of {num_adapters} {verb}: {first_of(names, MOST_NAMES)}"


def _print_adapters(out: Console, column: Replications) -> None:
    rows = adapter_rows(column.runs[0])
    print_adapters(
        out,
        f"adapters with {slots_text(column.config.max_loras)}, seed {column.seeds[0]}; tokens per second",
        [str(row["name"]) for row in rows],
        {title: [text(_or_nan(row[key])) for row in rows] for title, key, text in _ADAPTER_COLUMNS},
        [Text("starves", "red") if row["starved"] else Text() for row in rows],
        spare=("TTFT p50", "finished"),
    )


_ADAPTER_COLUMNS = (
    ("requests", "requests", number), ("finished", "finished", number), ("offered", "offered", number),
    ("served", "throughput", number), ("share", "served_share", share), ("TTFT mean", "ttft_mean_ms", milliseconds),
    ("TTFT p50", "ttft_p50_ms", milliseconds), ("TTFT p99", "ttft_p99_ms", milliseconds),
)  # fmt: skip


def _or_nan(value: float | None) -> float:
    return nan if value is None else value


_SERIES_FIGURES = 48
"""Characters of a line beside the sparkline."""

_SERIES_TITLES = {
    "running": "running", "waiting": "waiting", "kv_usage": "KV use", "distinct_adapters": "distinct adapters",
    "swap_ins_per_s": "swap-ins/s", "throughput": "total tokens/s",
}  # fmt: skip


def _print_series(out: Console, column: Replications) -> None:
    run = column.runs[0]
    series = time_series(run, parts=max(10, min(60, out.width - _SERIES_FIGURES)))
    table = Table(
        title=Text(f"over {run.window_s:g} s with {slots_text(column.config.max_loras)}"),
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in ("", "", "least", "mean", "most"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name in (item.name for item in fields(series) if item.name != "end_s"):
        values = getattr(series, name)
        ends = [number(float(value)) for value in (values.min(), values.mean(), values.max())]
        table.add_row(_SERIES_TITLES[name], sparkline(values, knows_unicode(out)), *ends)
    out.print(table)


def sparkline(values: Sequence[float] | np.ndarray, unicode: bool = True) -> str:
    """One character for each value, from 0 to the largest."""
    levels = "▁▂▃▄▅▆▇█" if unicode else "_.-=+*#@"
    highest = float(np.max(values, initial=0.0))
    scale = (len(levels) - 1) / highest if highest > 0 else 0.0
    return "".join(levels[round(float(value) * scale)] for value in values)
