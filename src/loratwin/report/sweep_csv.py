"""A sweep as CSV files: a row for each configuration; its adapters and its course over time, where they were kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from loratwin.records import Run
from loratwin.report.tables import Cell, Column, Row, Table, Value, plain
from loratwin.simulate import Replications, Sweep, adapter_rows, time_series
from loratwin.units import with_unit


def sweep_tables(sweep: Sweep) -> list[Table]:
    """All tables of a sweep, for CSV files.

    Parameters
    ----------
    sweep
        Of its runs the first of each configuration counts, if any was kept.
    """
    tables = [_table("configurations", [_configuration(column, sweep) for column in sweep.columns])]
    slots = Counter(column.config.max_loras for column in sweep.columns)
    for number, column in enumerate(sweep.columns, 1):
        name = f"max_loras-{column.config.max_loras}"
        if slots[column.config.max_loras] > 1:
            name = f"{number}-{name}"
        tables += [table for run in column.runs[:1] for table in _of_run(run, name)]
    return tables


def _of_run(run: Run, name: str) -> list[Table]:
    tables = [_table(f"adapters-{name}", adapter_rows(run))]
    if run.steps is not None:
        series = asdict(time_series(run))
        rows = [dict(zip(series, map(float, values), strict=True)) for values in zip(*series.values(), strict=True)]
        tables.append(_table(f"series-{name}", rows))
    return tables


def _configuration(column: Replications, sweep: Sweep) -> dict[str, Value]:
    """What is known of one, by name; means of the runs and half the width of their intervals."""
    row: dict[str, Value] = {**column.config.model_dump(), "kv_tokens": column.kv_tokens, "starts": column.starts}
    if not column.starts:
        return row | {"why_not": column.reason}
    row |= {"runs": len(column.outcomes), "starved_runs": column.num_starved}
    for name, figure in column.figures().items():
        row |= {name: figure.mean, f"{name}_half_width": figure.half_width}
    for name, interval in column.forecast.intervals.items() if column.forecast else ():
        row |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    if sweep.slo is not None:
        row |= {f"slo_{name}_s": reached.mean for name, reached in column.slo_s().items()}
        row |= {"goodput": column.goodput().mean, "chance": column.chance}
    return row


def _table(name: str, rows: Sequence[Mapping[str, Value]]) -> Table:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [Row([Cell(plain(row.get(key)), row.get(key)) for key in keys]) for row in rows]
    return Table(name, name, [Column(_with_unit(key), key) for key in keys], cells)


def _with_unit(key: str) -> str:
    figure = key.removesuffix("_half_width")
    return with_unit(figure) + key[len(figure) :]
