"""Files of a benchmark: the record, those of each replica, step logs, and the folder of what is being measured."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from loratwin.bench.prepare import unfinished
from loratwin.bench.replicas import of_server
from loratwin.bench.running import RunningServers
from loratwin.errors import DataError, InputError
from loratwin.extras import required
from loratwin.probe import read_notes, read_steps, write_parquet
from loratwin.records import Run, StepSeries, check_writable, save_run

PARTIAL = ".partial"
"""At the end of the name of the folder of what is being measured."""


class RecordFiles:
    """Where everything of a benchmark goes, from the name of its record.

    Attributes
    ----------
    partial
        What is being measured; gone when the record is written.
    logs
        Output and step logs of servers that we start.

    Raises
    ------
    InputError
        The record cannot be written, or is there already.
    """

    def __init__(self, path: str | Path, force: bool = False) -> None:
        path = Path(path)
        check_writable(path)
        if path.suffix not in (".json", ".parquet"):
            raise InputError(f"{path}: a run is a .json or a .parquet file")
        if path.suffix == ".parquet":
            required("pyarrow", f"{path}", "parquet")
        if path.exists() and not force:
            raise InputError(f"{path} is there already: give another name with -o, or --force to replace it")
        self.path = path
        self.partial = path.with_name(path.name + PARTIAL)
        self.logs = path.with_name(path.stem + "-logs")

    def check_free(self) -> None:
        """Refuse before a server is started what would be refused after it.

        Raises
        ------
        InputError
            The folder of an unfinished benchmark is in the way.
        """
        if self.partial.exists():
            raise unfinished(self.partial)

    def write(self, run: Run, start_s: float, servers: RunningServers) -> tuple[Run, list[Path]]:
        """Write the record(s); then the folder of what was being measured is no more needed (`done`).

        A step log that cannot be read costs the steps, and a note says so; never the record.

        Parameters
        ----------
        start_s
            When the window opened, on the monotonic clock.
        servers
            That were measured.

        Returns
        -------
        Run
            As it is in its record, with what the step logs say.
        list of Path
            The files.
        """
        logs = [_LoggedSteps.read(log, start_s, run.window_s) for log in servers.step_logs]
        run = run.with_notes([note for log in logs for note in log.notes])
        steps = [log.series for log in logs] or [None] * len(servers.kv_tokens)
        run = replace(run, steps=steps[0]) if len(steps) == 1 else run
        written = [save_run(run, self.path)]
        for i, series in enumerate(steps) if len(steps) > 1 else ():
            one = of_server(run, i, servers, series)
            what = servers.planned[i].name if servers.planned else f"replica-{i}"
            written.append(save_run(one, self.path.with_name(f"{self.path.stem}-{what}{self.path.suffix}")))
        if find_spec("pyarrow"):
            readable = [(i, log.folder) for i, log in enumerate(logs) if log.series is not None]
            written += [self._raw_steps(i, folder, start_s) for i, folder in readable]
        return run, written

    def step_logs(self) -> list[Path]:
        """Folders of the step logs that servers of this record wrote, in their order."""
        return sorted(self.logs.glob("steps-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))

    def done(self) -> None:
        """Remove the folder of what was being measured."""
        shutil.rmtree(self.partial)

    def _raw_steps(self, i: int, log: Path, start_s: float) -> Path:
        path = self.path.with_name(f"{self.path.stem}-steps-{i}.parquet")
        write_parquet(log, path, start_s)
        return path


@dataclass(frozen=True)
class _LoggedSteps:
    """What a server logged of its steps; `series` None: nothing that can be read, and `notes` say why."""

    folder: Path
    series: StepSeries | None
    notes: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path, start_s: float, window_s: float) -> _LoggedSteps:
        """The steps of the window."""
        try:
            return cls(folder, read_steps(folder, start_s, start_s, start_s + window_s), read_notes(folder))
        except DataError as error:
            return cls(folder, None, (*read_notes(folder), f"no steps in this record: {error}"))
