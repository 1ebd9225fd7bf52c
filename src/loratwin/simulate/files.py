"""Simulated runs as files: one run in one file, or a folder with a file for each."""

from __future__ import annotations

from pathlib import Path

from loratwin.errors import InputError
from loratwin.extras import required
from loratwin.records import Run, check_writable, save_run
from loratwin.simulate.sweep import Sweep

FORMATS = (".json", ".parquet")


def check_runs_path(path: str | Path, num_runs: int) -> None:
    """Refuse before long work what `save_runs` would refuse after it.

    Raises
    ------
    InputError
        The place cannot be written, or is one file for several runs.
    """
    path = Path(path)
    if path.is_dir():
        check_writable(path / "run.json")
        return
    check_writable(path)
    if path.suffix == ".parquet":
        required("pyarrow", f"{path}", "parquet")
    if path.suffix in FORMATS and num_runs > 1:
        raise InputError(f"{path} is one file and there are {num_runs} runs: give a folder")
    if path.suffix not in (*FORMATS, ""):
        raise InputError(f"{path}: a run is a .json or a .parquet file, or give a folder")


def save_runs(sweep: Sweep, path: str | Path) -> list[Path]:
    """Write the runs that a sweep kept: to a file, or each to a file of a folder; the files, by seed and slots.

    Raises
    ------
    InputError
        As `check_runs_path`.
    """
    runs = sorted((run for column in sweep.columns for run in column.runs), key=lambda run: run.provenance.seed or 0)
    check_runs_path(path, len(runs))
    path = Path(path)
    if path.suffix in FORMATS:
        return [save_run(run, path) for run in runs]
    path.mkdir(exist_ok=True)
    return [save_run(run, path / _name(run)) for run in runs]


def _name(run: Run) -> str:
    return f"max-loras-{run.config.max_loras}-seed-{run.provenance.seed}.json"
