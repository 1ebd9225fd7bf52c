"""Runs as text: what `loratwin report` prints, and `loratwin bench` at its end. Names of users are never markup."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loratwin.formatting import change, figure, first_of, number
from loratwin.metrics import (
    ClientAdapterFigures,
    ComparedRow,
    Comparison,
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
from loratwin.report.console import MOST_NAMES, as_text, box, console, limited, print_adapters, say
from loratwin.report.run_tables import LAST_ON_THEIR_WAY

_LEAST_WIDTH, _TITLE_WIDTH, _COLUMN_WIDTH = 140, 40, 24


def print_runs(runs: Mapping[str, Run], slo: Slo | None = None, adapters: bool = False) -> None:
    """Print the figures of runs side by side, those of each adapter if wanted, and what a reader must know of them.

    Parameters
    ----------
    runs
        By the name that each is shown under.
    slo
        Limits to check; None: none.
    adapters
        Whether those of each adapter are shown.
    """
    _show(console(_width(runs)), runs, slo, adapters)


def runs_text(runs: Mapping[str, Run], slo: Slo | None = None, adapters: bool = False) -> str:
    """What `print_runs` prints, without colours.

    Parameters
    ----------
    runs, slo, adapters
        As there.
    """
    return as_text(lambda out: _show(out, runs, slo, adapters), _width(runs))


def _width(runs: Mapping[str, Run]) -> int:
    return max(_LEAST_WIDTH, _TITLE_WIDTH + _COLUMN_WIDTH * (2 * len(runs) - 1))


def _show(out: Console, runs: Mapping[str, Run], slo: Slo | None, adapters: bool) -> None:
    for name, run in runs.items():
        say(out, f"{name}: {run.headline}")
        for reason in run.invalid:
            say(out, f"  INVALID: {reason}", "bold red")
    comparison = compare(runs, slo)
    out.print(_figures(comparison, out))
    _print_remarks(out, runs)
    for name, run in runs.items() if adapters else ():
        _print_adapters(out, name, run, slo)


# --- the table of figures


def _figures(comparison: Comparison, out: Console) -> Table:
    table = Table(box=box(out), pad_edge=False)
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


def _cells(row: ComparedRow, comparison: Comparison) -> list[Text]:
    cells = []
    for i, value in enumerate(row.values):
        cells.append(_value(row, value))
        if i != comparison.reference:
            cells.append(Text(change(row.difference(i, comparison.reference))))
    return cells


def _value(row: ComparedRow, value: float) -> Text:
    shown = figure(value, row.figure.unit)
    return Text(shown) if isnan(row.limit) else limited(shown, value, row.limit)


# --- below the table


def _print_remarks(out: Console, runs: Mapping[str, Run]) -> None:
    for name, run in runs.items():
        kinds = [f"{kind}: {count:,}" for kind, count in failures_by_kind(run)]
        if kinds:
            say(out, f"{name}: failures: {', '.join(kinds)}", "red")
        names = starving_adapters(run)
        if names:
            say(out, f"{name}: {len(names)} starving: {first_of(names, MOST_NAMES)}", "red")
        for note in run.provenance.notes:
            say(out, f"{name}: {note}", "yellow")
    for what, differing in (("workloads", workload_differences(runs)), ("servers", config_differences(runs))):
        if differing:
            say(out, f"the {what} differ: {'; '.join(differing)}", "yellow")


_ADAPTER_COLUMNS = (
    ("sent", "sent"), ("finished", "finished"), ("failed", "failed"), ("refused", "refused"), ("cut off", "censored"),
    ("served, %", "served_share"), ("tokens /s", "throughput"), ("goodput /s", "goodput"),
    ("TTFT mean", "ttft_mean_ms"), ("TTFT p99", "ttft_p99_ms"), ("TPOT mean", "tpot_mean_ms"),
    ("ITL p99", "itl_p99_ms"), ("end to end", "e2e_mean_ms"), ("lag p99", "lag_p99_ms"),
)  # fmt: skip
_SPARE = ("lag p99", "goodput /s", "ITL p99", "tokens /s", "cut off", "finished", "TTFT mean", "refused", "TPOT mean")
_ONLY_IF_ANY = ("failed", "refused")


def _print_adapters(out: Console, name: str, run: Run, slo: Slo | None) -> None:
    """The worst first; a column that no adapter has a figure in is left out."""
    figures = client_per_adapter(run, slo)
    order = figures.worst_first()
    columns = {
        words: [number(float(values[i])) for i in order]
        for words, key in _ADAPTER_COLUMNS
        if _says_something(key, values := _column(figures, key))
    }
    title = f"adapters of {name} ({run.kind}), the worst first; times in ms"
    names, on_their_way = [figures.name[i] for i in order], figures.only_unfinished
    marks = [
        Text("starves", "red") if figures.starved[i] else Text(LAST_ON_THEIR_WAY if on_their_way[i] else "")
        for i in order
    ]
    print_adapters(out, title, names, columns, marks, spare=_SPARE)


def _column(figures: ClientAdapterFigures, key: str) -> FloatArray:
    values: FloatArray = np.asarray(getattr(figures, key), dtype=np.float64)
    return 100 * values if key == "served_share" else values


def _says_something(key: str, values: FloatArray) -> bool:
    return bool(values.any()) if key in _ONLY_IF_ANY else not np.isnan(values).all()
