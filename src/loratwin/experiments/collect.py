"""All runs of a folder as one table: the grid's values, how each ended, and its figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from loratwin.errors import DataError
from loratwin.experiments.experiments import Experiments
from loratwin.extras import required
from loratwin.metrics import Summary

FIGURES = tuple(field.name for field in fields(Summary))

_FIRST = ("run", "stage", "reason", "took_s", "host")


@dataclass(frozen=True)
class RunTable:
    """One row for each run.

    Parameters
    ----------
    name
        Of the grid.
    axes
        Columns that differ between runs, by full name.
    columns
        Of all rows, in order.
    rows
        Values by column; None where there is none.
    """

    name: str
    axes: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]

    def write(self, path: Path) -> None:
        """As .parquet (for DuckDB, pandas, polars) or .csv.

        Raises
        ------
        DataError
            Another kind of file.
        """
        from loratwin.records import write_atomically

        if path.suffix == ".csv":
            write_atomically(path, self.as_csv())
        elif path.suffix == ".parquet":
            write_atomically(path, self._as_parquet())
        else:
            raise DataError(f"{path}: the name must end in .parquet or .csv")

    def as_csv(self) -> str:
        """As text."""
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns, lineterminator="\n", restval="")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})
        return out.getvalue()

    def _as_parquet(self) -> bytes:
        required("pyarrow", "a parquet table", "parquet")
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {name: pa.array(_of_one_type([row.get(name) for row in self.rows])) for name in self.columns}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        data: bytes = sink.getvalue().to_pybytes()
        return data


def collect(folder: str | Path) -> RunTable:
    """Read what all runs of a folder have said of themselves; no record is opened.

    Raises
    ------
    DataError
        The folder holds no grid.
    """
    experiments = Experiments(folder)
    grid = experiments.grid()
    rows = tuple(_rows(experiments))
    values = tuple(grid.values)
    return RunTable(grid.name, grid.axes, (*_FIRST, *values, *FIGURES), rows)


def _rows(experiments: Experiments) -> Iterator[dict[str, Any]]:
    for name, state in experiments.states().items():
        spec = json.loads((experiments.folder / name / "run.json").read_text(encoding="utf-8"))
        row: dict[str, Any] = {"run": name, "stage": state.stage, "reason": state.reason}
        if state.host:
            row |= {"took_s": state.took_s, "host": state.host}
        yield row | spec["values"] | state.summary


def _cell(value: Any) -> Any:
    return "" if value is None else json.dumps(value) if isinstance(value, (list, dict)) else value


def _of_one_type(values: list[Any]) -> list[Any]:
    """As text, where they are of several types: a column has one."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and kinds != {int}:
        return [None if value is None else float(value) for value in values]
    return values if len(kinds) <= 1 and not kinds & {list, dict} else [None if v is None else str(v) for v in values]
