"""The runs of a calibration, measured one after the other on real servers and kept as records."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loratwin.bench import Listener, Options, was_interrupted
from loratwin.bench.listener import SILENT
from loratwin.bench.result import window_start_s
from loratwin.bench.running import RunningServers
from loratwin.bench.session import measure_window
from loratwin.calibrate.design import LEAST_RUNS
from loratwin.calibrate.loop.budget import Budget
from loratwin.calibrate.loop.source import ServerSource
from loratwin.engines.arguments import ServerArguments
from loratwin.errors import DataError
from loratwin.launch.machine import busy_share
from loratwin.probe import read_notes, read_steps
from loratwin.records import Run, load_run, save_run
from loratwin.workload import Workload

_FLUSH_S = 0.7
"""The probe writes its rows every half second."""

_BUSY = 0.2
"""Part of all cores that others may use: on two cores less than half of one."""

_MOST_WARM_UP = 64
"""Requests before a closed loop's window, at most; fewer where fewer are in flight.

A batch makes the server do what it does only once (compile kernels, open connections, grow its buffers); the server is
empty again when the window opens, so that more requests warm nothing further.
"""

_OPEN_WARM_UP = 16

REFERENCE_S = 0.75
"""Seconds of the reference load before and after each run."""


@dataclass(frozen=True)
class PlannedRun:
    """A run to be measured, and where its record goes.

    Parameters
    ----------
    in_flight
        Requests in flight (closed loop); 0: open loop.
    about
        What it is there for, in words.
    repeats
        Whether it measures once more what another has.
    """

    path: Path
    workload: Workload
    in_flight: int = 0
    about: str = ""
    repeats: bool = False


Seen = Callable[[Path, Run], None]
"""Told of each record, new or there before."""


def measure_runs(
    source: ServerSource,
    arguments: ServerArguments,
    planned: Sequence[PlannedRun],
    logs: Path,
    seen: Seen = lambda path, run: None,
    listener: Listener = SILENT,
    budget: Budget | None = None,
) -> None:
    """Measure runs on one server; those whose record is there are not measured again.

    Parameters
    ----------
    arguments
        Of the design, for the server.
    logs
        Folder for what it prints and logs.
    budget
        Runs that do not fit into it are left out, which the listener is told; None: all are measured.

    Raises
    ------
    InputError, ServerError
        As `ServerSource.server` and `measure_window`.
    KeyboardInterrupt
        As it came; the record of that run is not kept.
    """
    missing = [run for run in planned if not run.path.exists()]
    for run in planned:
        if run not in missing:
            seen(run.path, load_run(run.path))
    if not missing:
        return
    if budget is not None and budget.left_s < budget.server_s([missing[0].workload.window_s]):
        listener.line(f"left out, since the minutes are over: {', '.join(run.path.stem for run in missing)}")
        return
    if note := busy_note(busy_share()):
        listener.line(note)
    asked: set[str] = set()  # each adapter once per start of the server, not once per run
    began = time.monotonic()
    with source.server(arguments, source.adapters().name, logs, listener) as running:
        if budget is not None:
            budget.started(time.monotonic() - began)
        for run in missing:
            measured = missing.index(run)
            if budget is not None and measured >= LEAST_RUNS and not budget.holds(run.workload.window_s, run.repeats):
                listener.line(f"{run.path.stem}: left out, since it does not fit into the minutes")
                continue
            listener.line(f"{run.path.stem}: {run.about}")
            options = run_options(run, source, preload=not asked.issuperset(run.workload.adapters.name))
            began = time.monotonic()
            record = _measured(run, running, options, listener)
            if budget is not None:
                budget.ran(run.workload.window_s, time.monotonic() - began)
            seen(run.path, record)
            asked.update(run.workload.adapters.name)


def busy_note(busy: float) -> str:
    """A warning where others use the machine; empty where it is quiet, or does not tell.

    Parameters
    ----------
    busy
        Part of all cores that is busy while no server of ours runs; NaN: unknown.
    """
    if not busy >= _BUSY:
        return ""
    return (
        f"others use this machine ({busy:.0%} of its cores are busy): steps take up to twice as long while "
        "they do, and neither the fit nor the check can be better than that"
    )


def run_options(planned: PlannedRun, source: ServerSource, preload: bool) -> Options:
    """Prompts keep their random seed: a run that is begun again must not find its own in the server's prefix cache."""
    warm_up = min(planned.in_flight, _MOST_WARM_UP) or _OPEN_WARM_UP
    return Options(
        in_flight=planned.in_flight, warm_up=warm_up, preload=preload, reference_s=REFERENCE_S, headers=source.headers
    )


def _measured(planned: PlannedRun, running: RunningServers, options: Options, listener: Listener) -> Run:
    partial = planned.path.with_name(planned.path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # a calibration's run is short: begun again, not recovered
    try:
        run = measure_window(planned.workload, running, options, partial, listener)
        if was_interrupted(run):
            raise KeyboardInterrupt
        run = _with_steps(run, running, window_start_s(partial))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    save_run(run, planned.path)
    return run


def _with_steps(run: Run, running: RunningServers, start_s: float) -> Run:
    """The run with the steps of its window, where the server logs them."""
    if not running.step_logs:
        return run
    time.sleep(_FLUSH_S)
    log = running.step_logs[0]
    try:
        return replace(run, steps=read_steps(log, start_s, start_s, start_s + run.window_s))
    except DataError as error:
        return run.with_notes([str(error), *read_notes(log)])
