"""What figures are made of: measured tables and records of one folder, and what the twin says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from loratwin.advise import BatchSweep, read_sweeps
from loratwin.calibrate.published import tables
from loratwin.calibrate.published.serving import ServingRun, read_serving
from loratwin.errors import LoratwinError
from loratwin.gpu_traces import KernelTrace, read_trace
from loratwin.records import Run, load_run
from loratwin.report.charts import Chart
from loratwin.report.tables import Cell, Column, Row, Table, word
from loratwin.validate.predict import Prediction, predict_all

Progress = Callable[[str, int, int], None]

RECORDS, PROFILES = "*.json or *.parquet", "*.sqlite, *.csv or *.json of a GPU profiler"
"""What stands for a file of the user's own in a figure's needs."""


class Made(NamedTuple):
    """What a figure came to."""

    charts: Sequence[Chart]
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()


@dataclass
class Source:
    """A folder with measured tables, records of runs, or both.

    Parameters
    ----------
    profile
        The user's own records are compared with its twin; None: they are not.
    """

    folder: Path
    processes: int = 1
    progress: Progress = lambda what, done, of: None
    profile: str | None = None
    _tables: dict[str, list[tables.Row]] = field(default_factory=dict)

    def table(self, name: str, *required: str) -> list[tables.Row]:
        """Rows of a table, read once.

        Raises
        ------
        InputError, DataError
            It cannot be read, or a column is missing.
        """
        if name not in self._tables:
            self._tables[name] = tables.read_table(self.folder / name, required)
        return self._tables[name]

    def missing(self, needs: Sequence[str]) -> list[str]:
        """Of the files that a figure needs those that are not there."""
        return [need for need in needs if not self._has(need)]

    def _has(self, need: str) -> bool:
        if need == RECORDS:
            return bool(self.records)
        if need == PROFILES:
            return bool(self.gpu_profiles)
        return (self.folder / need).is_file()

    def digest(self, needs: Sequence[str]) -> str:
        """Of the content of what a figure is made of, and of the profile."""
        total = hashlib.sha256((self.profile or "").encode())
        for path in sorted(self._files(needs)):
            total.update(f"{path.name}:".encode() + hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()[:24]

    def _files(self, needs: Sequence[str]) -> list[Path]:
        files = [Path(name) for need in needs if need == RECORDS for name in self.records]
        files += [Path(trace.file) for need in needs if need == PROFILES for trace in self.gpu_profiles]
        return files + [self.folder / need for need in needs if (self.folder / need).is_file()]

    @cached_property
    def records(self) -> dict[str, Run]:
        """The user's own runs by path, also of folders of experiments; files that are no record are passed over."""
        runs: dict[str, Run] = {}
        paths = [*self.folder.glob("*.json"), *self.folder.glob("*.parquet")]
        paths += [*self.folder.glob("*/run.json"), *self.folder.glob("*/run.parquet")]
        for path in sorted(paths):
            try:
                runs[str(path)] = load_run(path)
            except LoratwinError:
                continue
        return runs

    @cached_property
    def gpu_profiles(self) -> list[KernelTrace]:
        """Exports of GPU profilers among the files; others are passed over."""
        known = {path for path in self.records}
        traces = []
        for path in sorted(
            each for kind in ("*.sqlite", "*.csv", "*.json", "*.json.gz") for each in self.folder.glob(kind)
        ):
            if str(path) not in known:
                try:
                    traces.append(read_trace(path))
                except LoratwinError:
                    continue
        return traces

    @cached_property
    def sweeps(self) -> list[BatchSweep]:
        """Measured sweeps of the batch, by LLM."""
        return read_sweeps(self.folder / "batch_sweep_and_replication.csv")

    def serving(self, name: str) -> list[ServingRun]:
        """Runs of a `serving_*.csv`."""
        return read_serving(self.folder / name)

    def predicted(self, runs: Sequence[ServingRun], what: str) -> list[Prediction]:
        """What the shipped profiles' twin says of measured runs."""
        return predict_all(runs, processes=self.processes, progress=lambda done, of: self.progress(what, done, of))


def figures_table(name: str, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of words and figures; what reads as a number is one, also in the CSV."""
    numbers = [all(_number(row[i]) is not None or not row[i] for row in rows) for i in range(len(header))]
    columns = [Column(each, each, is_word=not figures) for each, figures in zip(header, numbers, strict=True)]
    cells = [
        Row([Cell(text, _number(text)) if figures else word(text) for text, figures in zip(row, numbers, strict=True)])
        for row in rows
    ]
    return Table(name, title, columns, cells)


def _number(text: str) -> float | None:
    """A figure, also one in per cent; None: it is a word."""
    try:
        return float(text.removesuffix(" %"))
    except ValueError:
        return None
