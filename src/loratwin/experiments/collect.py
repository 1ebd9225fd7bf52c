"""All runs of a folder as one table: the grid's values, how each ended, and its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from loratwin.errors import DataError
from loratwin.experiments.experiments import Experiments
from loratwin.metrics import Summary
from loratwin.records.rows import rows_csv, rows_parquet

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
            write_atomically(path, rows_parquet(self.columns, self.rows))
        else:
            raise DataError(f"{path}: the name must end in .parquet or .csv")

    def as_csv(self) -> str:
        """As text."""
        return rows_csv(self.columns, self.rows)


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
