"""A benchmark in one call: servers found or started, a workload measured, the record written."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from loratwin.bench.files import PARTIAL, RecordFiles
from loratwin.bench.listener import SILENT, Listener
from loratwin.bench.options import Options
from loratwin.bench.result import window_start_s
from loratwin.bench.running import RunningServers
from loratwin.bench.servers import Servers
from loratwin.bench.session import measure_window, nothing_measured, recorded_servers, recover
from loratwin.errors import InputError
from loratwin.records import Run, load_run
from loratwin.workload import Workload, WorkloadSpec, draw, load_spec, recorded_workload


def measure(
    workload: Workload,
    servers: Servers,
    output: str | Path = "bench.json",
    *,
    options: Options | None = None,
    force: bool = False,
    listener: Listener = SILENT,
) -> Run:
    """Send a workload to servers, measure every request, and write the record; what `loratwin bench` does.

    Nothing measured is lost: until the record is written everything is in the folder `output + ".partial"`, of which
    `recover` makes a record if this process is killed. Ctrl-C ends the window early and keeps what was measured
    (`was_interrupted` tells).

    Parameters
    ----------
    workload
        Its requests, as `loratwin.workload.draw` or `load_requests` give them.
    servers
        `GivenServers` or `LaunchedServers`. Those that are started are stopped at the end.
    output
        The record, .json or .parquet. Several servers have one each beside it, step logs a file each (with pyarrow).
    options
        How the workload is sent; None: open loop, random prompts.
    force
        Replace a record that is there.
    listener
        Who is told how it goes on.

    Returns
    -------
    Run
        What is in the record. `Run.invalid` holds reasons why its figures are not to be trusted.

    Raises
    ------
    InputError
        Before anything is started: a bad option, a file that cannot be written or is there. Before the window: servers
        or adapters that do not answer, requests longer than the server's context.
    ServerError
        A server does not start.
    """
    options, files = (options or Options()).of(workload.pattern), RecordFiles(output, force)
    options.check()
    files.check_free()
    with servers.running(workload.adapters.name, options.headers, files.logs, listener) as running:
        running = running.holding(workload.adapters.rank.tolist())
        run = _measured(workload, running, options, files.partial, listener)
    start_s = window_start_s(files.partial)  # servers are stopped by now, and their step logs whole
    run, written = files.write(run, start_s, running)
    files.done()
    for path in written:
        listener.line(f"written: {path}")
    return run


def _measured(workload: Workload, running: RunningServers, options: Options, folder: Path, listener: Listener) -> Run:
    """Measure; a folder in which there is nothing to recover is not left behind."""
    try:
        return measure_window(workload, running, options, folder, listener)
    except BaseException:
        if folder.is_dir() and nothing_measured(folder):
            shutil.rmtree(folder)
        raise


def recovered(folder: Path, output: str | Path | None = None, force: bool = False) -> tuple[Run, list[Path]]:
    """The record of a benchmark whose processes were killed, written; what `loratwin bench --recover` does.

    Parameters
    ----------
    folder
        Its .partial folder; can be removed afterwards.
    output
        The record, .json or .parquet; None: what the folder is the beginning of, `NAME.json` of `NAME.json.partial`.
    force
        Replace one that is there.

    Returns
    -------
    Run
        What is in the record, with the steps that servers of ours logged.
    list of Path
        The files.

    Raises
    ------
    InputError
        The record cannot be written, or is there already.
    DataError
        There is nothing measured in the folder, or it is damaged.
    """
    run, record_folder = recover(folder), folder.with_name(folder.name.removesuffix(PARTIAL))
    if output is None and record_folder == folder:
        raise InputError(f"--recover {folder}: its name does not end in {PARTIAL}; name the record with -o")
    files = RecordFiles(record_folder if output is None else output, force)
    logs = RecordFiles(record_folder, force=True).step_logs() if record_folder != folder else []
    return files.write(run, window_start_s(folder), recorded_servers(folder, run, logs))


def load_requests(source: str | Path, seed: int = 0, window_s: float | None = None) -> Workload:
    """The requests to send: drawn of a workload file, or those of a run's record once more.

    Parameters
    ----------
    source
        Workload file, "example:NAME", or a record (.json, .parquet).
    seed
        Of a workload file's requests: the same as the twin's with this seed.
    window_s
        Seconds to measure; None: the workload's.

    Raises
    ------
    InputError, DataError
        It cannot be read, or there is no such window.
    """
    if str(source).endswith((".json", ".parquet")):
        run = load_run(source)
        return recorded_workload(run if window_s is None else _cut(run, window_s))
    spec = load_spec(source)
    return draw(spec if window_s is None else _over(spec, window_s), seed)


def _over(spec: WorkloadSpec, window_s: float) -> WorkloadSpec:
    """The workload over another window, checked again: it may ask for too many requests now."""
    values = {name: getattr(spec, name) for name in WorkloadSpec.model_fields} | {"window_s": _positive(window_s)}
    try:
        return WorkloadSpec(**values)
    except InputError as error:
        raise InputError(f"--window {window_s:g}: {str(error).removeprefix('WorkloadSpec: ')}") from None


def _cut(run: Run, window_s: float) -> Run:
    if window_s > run.window_s:
        raise InputError(f"--window {window_s:g}: the record has {run.window_s:g} s")
    return replace(run, window_s=_positive(window_s))


def _positive(window_s: float) -> float:
    if not 0 < window_s < float("inf"):
        raise InputError(f"--window {window_s:g}: it must be a positive number of seconds")
    return window_s
