"""Where `-o` puts simulated runs: one file, or a folder with a file for each run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from loratwin.errors import InputError
from loratwin.records import Run, check_writable, save_run

FORMATS = (".json", ".parquet")


class RunOutput:
    """Checks the place first, keeps the runs until all are there, then writes.

    Raises
    ------
    InputError
        The place cannot be written, or is one file for several runs.
    """

    def __init__(self, path: Path | None, num_runs: int) -> None:
        self.path = path
        self.runs: list[Run] = []
        if path is not None:
            _check(path, num_runs)

    def add(self, with_series: bool, run: Run) -> None:
        """Keep a run if it is to be written, with its step series or with the gauges that it sums up to."""
        if self.path is None:
            return
        self.runs.append(run if with_series else without_series(run))

    def write(self) -> list[Path]:
        """Write all runs; the files."""
        if self.path is None:
            return []
        if self.path.suffix in FORMATS:
            return [save_run(self.runs[0], self.path)]
        self.path.mkdir(exist_ok=True)
        return [save_run(run, self.path / _name(run)) for run in self.runs]


def without_series(run: Run) -> Run:
    """The run with its gauges in place of the step series."""
    from dataclasses import replace

    from loratwin.metrics import gauges

    return replace(run, steps=None, gauges=gauges(run))


def _name(run: Run) -> str:
    return f"max-loras-{run.config.max_loras}-seed-{run.provenance.seed}.json"


def _check(path: Path, num_runs: int) -> None:
    if path.is_dir():
        check_writable(path / "run.json")
        return
    check_writable(path)
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise InputError(f"{path}: parquet needs pyarrow (pip install 'loratwin[parquet]'); .json does not")
    if path.suffix in FORMATS and num_runs > 1:
        raise InputError(f"{path} is one file and there are {num_runs} runs: give a folder")
    if path.suffix not in (*FORMATS, ""):
        raise InputError(f"{path}: a run is a .json or a .parquet file, or give a folder")
