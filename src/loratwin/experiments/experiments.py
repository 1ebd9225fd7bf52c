"""The runs of a grid in a folder: planned, made somewhere, looked at, made again where they are missing.

The folder holds `grid.json` (which grid it is), and a folder for each run. Whatever is killed, what is done stays done,
and `make` makes exactly what is missing.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loratwin.engines.registry import find_engine
from loratwin.errors import DataError, InputError
from loratwin.experiments.containers import Container
from loratwin.experiments.executors import SlurmExecutor, SlurmOptions, minutes_for, queued_jobs
from loratwin.experiments.grid import Combination, Grid, expand, parse_grid
from loratwin.experiments.run_spec import RunSpec, run_spec
from loratwin.experiments.runner import RunState, make_run, read_state
from loratwin.records import write_atomically

GRID, JOBS, SLURM = "grid.json", "jobs.json", "slurm"
"""In the whole folder: which grid it is; names of Slurm's jobs by run; what submitit writes."""

START_S = 120.0
"""Seconds that a server is taken to need to start, for time limits and estimates; not measured."""

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Planned:
    """One run of a grid, or one that a condition leaves out.

    Parameters
    ----------
    spec
        None: it is left out.
    left_out
        The condition that does.
    """

    name: str
    spec: RunSpec | None
    left_out: str

    @property
    def seconds(self) -> float:
        """About how long it takes: a start, and the window. The start is assumed."""
        return 0.0 if self.spec is None else START_S + self.spec.window_s


def plan_runs(grid: Grid, base: Path, container: Container | None = None) -> list[Planned]:
    """All runs of a grid, checked; nothing is written.

    Parameters
    ----------
    base
        Folder of the grid's file.
    container
        That servers run in.

    Raises
    ------
    InputError
        The first thing that is wrong with any of them.
    """
    return [_planned(grid, combination, base, container) for combination in expand(grid)]


def _planned(grid: Grid, combination: Combination, base: Path, container: Container | None) -> Planned:
    if combination.left_out:
        return Planned(combination.name, None, combination.left_out)
    spec = run_spec(grid, combination, base)
    if container is not None and container.kind != "none":
        spec = replace(spec, command=container.command(spec.command or find_engine(spec.engine).plain_command))
    return Planned(combination.name, spec, "")


class Experiments:
    """A folder with the runs of one grid."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    # --- what is to be made

    def prepare(self, grid: Grid, planned: Sequence[Planned]) -> list[str]:
        """Make the folders of all runs; the names of those to be made, in order.

        Raises
        ------
        InputError
            The folder is that of another grid, or it cannot be written.
        """
        self._claim(grid)
        runs = [run.spec for run in planned if run.spec is not None]
        for spec in runs:
            folder = self.folder / spec.name
            if read_state(folder, spec.digest).stage == "waiting":
                spec.write(folder)
        return [spec.name for spec in runs]

    def _claim(self, grid: Grid) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / GRID
        if path.exists():
            if self.grid().digest != grid.digest:
                raise InputError(f"{self.folder} holds another grid ({self.grid().name}): take another folder with -o")
            return
        if any(self.folder.iterdir()):
            raise InputError(f"{self.folder} is not empty, and holds no grid: take another folder with -o")
        write_atomically(path, grid.model_dump_json(indent=1) + "\n")

    def grid(self) -> Grid:
        """Which grid the folder holds.

        Raises
        ------
        DataError
            None.
        """
        try:
            return parse_grid(json.loads((self.folder / GRID).read_text(encoding="utf-8")), str(self.folder / GRID))
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder} holds no grid ({error})") from None

    # --- making

    def make(
        self,
        names: Sequence[str],
        executor: Executor,
        again: bool = False,
        report: Report = lambda what, done, of: None,
    ) -> dict[str, str]:
        """Make runs that are not done, and wait for them; how far each is.

        Parameters
        ----------
        executor
            Where; it is not shut down.
        again
            Also those that failed.

        Raises
        ------
        InputError
            The executor's processes die faster than they can be replaced.
        """
        ends: dict[str, str] = {}
        futures = {executor.submit(make_run, str(self.folder / name), again): name for name in names}
        for future in as_completed(futures):
            try:
                ends[futures[future]] = future.result()
            except BrokenProcessPool:
                raise InputError("a process that makes runs was killed: the same command goes on") from None
            report("runs", len(ends), len(futures))
        return ends

    def submit(self, names: Sequence[str], options: SlurmOptions, again: bool = False) -> list[str]:
        """Hand runs that are not done to Slurm as one array, and do not wait; the names of those that were handed over.

        Raises
        ------
        InputError
            No Slurm, no such partition, or a time limit shorter than a run.
        """
        missing = [name for name in self.missing(names, again)]
        if not missing:
            return []
        minutes = self._minutes(missing, options)
        executor = SlurmExecutor(self.folder / SLURM, options, self.grid().name, minutes)
        jobs = executor.submit_all(_Again(again), [str(self.folder / name) for name in missing])
        write_atomically(self.folder / JOBS, json.dumps(self.jobs() | dict(zip(missing, jobs, strict=True)), indent=1))
        return missing

    def _minutes(self, names: Sequence[str], options: SlurmOptions) -> int:
        from loratwin.experiments.run_spec import read_run_spec

        longest = max((read_run_spec(self.folder / name) for name in names), key=lambda spec: spec.window_s)
        if options.minutes is not None and 60 * options.minutes < longest.window_s + START_S:
            raise InputError(
                f"--minutes {options.minutes}: {longest.name} measures {longest.window_s:g} s, a server needs about "
                f"{START_S:g} s to start; {minutes_for(longest.window_s + START_S)} minutes are safe"
            )
        return minutes_for(longest.window_s + longest.start_timeout_s)

    # --- looking

    def jobs(self) -> dict[str, str]:
        """Names of Slurm's jobs by run."""
        try:
            jobs: dict[str, str] = json.loads((self.folder / JOBS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return jobs

    def states(self, names: Sequence[str] | None = None) -> dict[str, RunState]:
        """How far each run is; one that Slurm still has is queued, not interrupted."""
        given = self._names() if names is None else names
        states = {name: read_state(self.folder / name) for name in given}
        jobs = self.jobs()
        open_jobs = {name for name, state in states.items() if state.stage in ("waiting", "interrupted")}
        if not open_jobs & jobs.keys():
            return states
        queued = _queued()
        return {
            name: replace(state, stage="queued") if name in open_jobs and jobs.get(name) in queued else state
            for name, state in states.items()
        }

    def missing(self, names: Sequence[str] | None = None, again: bool = False) -> list[str]:
        """Runs to be made: never begun or interrupted, and with `again` those that failed; none that is in hand."""
        wanted = {"waiting", "interrupted", *(("failed",) if again else ())}
        return [name for name, state in self.states(names).items() if state.stage in wanted]

    def counts(self) -> dict[str, int]:
        """Runs by how far they are."""
        return dict(Counter(state.stage for state in self.states().values()))

    def in_hand(self) -> bool:
        """Whether runs wait, are queued or are being made."""
        return any(self.counts().get(stage) for stage in ("waiting", "queued", "running"))

    def _names(self) -> list[str]:
        """Of all runs: the folders here but Slurm's."""
        with os.scandir(self.folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and entry.name != SLURM)


@dataclass(frozen=True)
class _Again:
    """`make_run` with one argument; goes to other machines."""

    again: bool

    def __call__(self, folder: str) -> str:
        return make_run(folder, self.again)

    def checkpoint(self, folder: str) -> Any:
        """What submitit hands over again when Slurm preempts the job: the same, which makes what is missing."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, folder)


def _queued() -> set[str]:
    """Jobs that Slurm still has; none where there is no Slurm."""
    try:
        return queued_jobs()
    except InputError:
        return set()
