"""Runs as text: what `loratwin report` prints, and `loratwin bench` at its end. Names of users are never markup."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

import numpy as np
from rich.box import ASCII, SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loratwin.metrics import (
    ClientAdapterFigures,
    Comparison,
    Row,
    Slo,
    client_per_adapter,
    compare,
    config_differences,
    failures_by_kind,
    starvation,
    starving_adapters,
    workload_differences,
)
from loratwin.records import Run
from loratwin.records.columns import FloatArray

_LEAST_WIDTH, _TITLE_WIDTH, _COLUMN_WIDTH = 140, 40, 24
_NAMES_SHOWN = 8


def print_runs(runs: Mapping[str, Run], slo: Slo | None = None, adapters: bool = False) -> None:
    """Print the figures of runs side by side, those of each adapter if wanted, and what a reader must know of them.

    Parameters
    ----------
    runs
        By the name that each is shown under.
    """
    console = _console(len(runs))
    for name, run in runs.items():
        _say(console, f"{name}: {heading(run)}")
        for reason in run.invalid:
            _say(console, f"  INVALID: {reason}", "bold red")
    comparison = compare(runs, slo)
    console.print(_figures(comparison, console))
    _print_remarks(console, runs)
    for name, run in runs.items() if adapters else ():
        _print_adapters(console, name, run, slo)


def heading(run: Run) -> str:
    """One line: measured or simulated, of what, and how much."""
    source = run.provenance
    who = [source.profile or source.engine_version, source.llm, source.gpu]
    rate = len(run.requests) / run.window_s
    size = f"{len(run.adapters):,} adapters, {rate:.4g} requests/s, {run.window_s:g} s"
    return ", ".join([run.kind, *(part for part in who if part), size])


# --- the table of figures


def _console(num_runs: int) -> Console:
    """As wide as the terminal; in a pipe as wide as the table."""
    console = Console(highlight=False)
    if console.is_terminal:
        return console
    return Console(highlight=False, width=max(_LEAST_WIDTH, _TITLE_WIDTH + _COLUMN_WIDTH * (2 * num_runs - 1)))


def _box(console: Console) -> Any:
    return SIMPLE_HEAD if console.encoding.lower().startswith("utf") else ASCII


def _figures(comparison: Comparison, console: Console) -> Table:
    table = Table(box=_box(console), pad_edge=False)
    table.add_column("", no_wrap=True)
    for i, (name, run) in enumerate(comparison.runs.items()):
        table.add_column(Text(f"{name}\n{run.kind}"), justify="right")
        if i != comparison.reference:
            table.add_column(Text(f"against\n{comparison.names[comparison.reference]}"), justify="right")
    table.add_row("starved", *_verdicts(comparison), end_section=True)
    for row, following in zip(comparison.rows, [*comparison.rows[1:], None], strict=True):
        last = following is None or following.figure.section != row.figure.section
        table.add_row(row.figure.title, *_cells(row, comparison), end_section=last)
    return table


def _verdicts(comparison: Comparison) -> list[Text]:
    cells = []
    for i, run in enumerate(comparison.runs.values()):
        verdict = starvation(run)
        cells.append(Text(f"YES: {verdict.reason}", "red") if verdict.starved else Text("no", "green"))
        cells += [Text("")] * (i != comparison.reference)
    return cells


def _cells(row: Row, comparison: Comparison) -> list[Text]:
    cells = []
    for i, value in enumerate(row.values):
        cells.append(_value(row, value))
        if i != comparison.reference:
            cells.append(Text(_change(row.difference(i, comparison.reference))))
    return cells


def _value(row: Row, value: float) -> Text:
    shown = shown_value(value, row.figure.unit)
    if isnan(row.limit):
        return Text(shown)
    met = value <= row.limit
    return Text(f"{shown} {'met' if met else 'MISSED'}", style="green" if met else "red")


def _change(share: float) -> str:
    return "-" if isnan(share) else f"{share * 100:+.1f} %"


def shown_value(value: float, unit: str) -> str:
    """A figure with its unit; a dash where it is unknown."""
    if isnan(value):
        return "-"
    if unit == "share":
        return f"{value * 100:.4g} %"
    if unit == "ms":
        return f"{_number(value / 1e3)} s" if abs(value) >= 10_000 else f"{_number(value)} ms"
    return f"{_number(value)} {unit}".rstrip() if unit != "/s" else f"{_number(value)}/s"


def _number(value: float) -> str:
    """Four digits where there are so many to trust."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


# --- below the table


def _print_remarks(console: Console, runs: Mapping[str, Run]) -> None:
    for name, run in runs.items():
        kinds = [f"{kind}: {count:,}" for kind, count in failures_by_kind(run)]
        if kinds:
            _say(console, f"{name}: failures: {', '.join(kinds)}", "red")
        names = starving_adapters(run)
        if names:
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            _say(console, f"{name}: {len(names)} starving: {', '.join(names[:_NAMES_SHOWN])}{more}", "red")
        for note in run.provenance.notes:
            _say(console, f"{name}: {note}", "yellow")
    for what, differing in (("workloads", workload_differences(runs)), ("servers", config_differences(runs))):
        if differing:
            _say(console, f"the {what} differ: {'; '.join(differing)}", "yellow")


def _say(console: Console, line: str, style: str = "") -> None:
    console.print(Text(line, style=style), soft_wrap=True)


_ADAPTER_COLUMNS = (
    ("sent", "sent"), ("finished", "finished"), ("failed", "failed"), ("refused", "refused"), ("cut off", "censored"),
    ("served, %", "served_share"), ("tokens /s", "throughput"), ("goodput /s", "goodput"),
    ("TTFT mean", "ttft_mean_ms"), ("TTFT p99", "ttft_p99_ms"), ("TPOT mean", "tpot_mean_ms"),
    ("ITL p99", "itl_p99_ms"), ("end to end", "e2e_mean_ms"), ("lag p99", "lag_p99_ms"),
)  # fmt: skip
_ONLY_IF_ANY = ("failed", "refused")


def _print_adapters(console: Console, name: str, run: Run, slo: Slo | None) -> None:
    """The worst first; a column that no adapter has a figure in is left out."""
    figures = client_per_adapter(run, slo)
    title = Text(f"adapters of {name} ({run.kind}), the worst first; times in ms")
    table = Table(title=title, title_justify="left", box=_box(console), pad_edge=False)
    table.add_column("adapter", overflow="fold", min_width=12)
    columns = {
        words: values for words, key in _ADAPTER_COLUMNS if _says_something(key, values := _column(figures, key))
    }
    for words in columns:
        table.add_column(words, justify="right", overflow="fold")  # never an ellipsis in a number
    table.add_column("")
    for i in figures.worst_first():
        cells = [_short(float(values[i])) for values in columns.values()]
        table.add_row(Text(figures.name[i]), *cells, Text("starves", "red") if figures.starved[i] else "")
    console.print(table)


def _short(value: float) -> str:
    """Three digits, so that the columns stay narrow."""
    return "-" if isnan(value) else f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _column(figures: ClientAdapterFigures, key: str) -> FloatArray:
    values: FloatArray = np.asarray(getattr(figures, key), dtype=np.float64)
    return 100 * values if key == "served_share" else values


def _says_something(key: str, values: FloatArray) -> bool:
    return bool(values.any()) if key in _ONLY_IF_ANY else not np.isnan(values).all()
