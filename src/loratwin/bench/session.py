"""A benchmark from its start to its record, and what can still be made of one that was killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from loratwin.bench.client import INTERRUPTED, ClientProcess, follow
from loratwin.bench.listener import DONE, SILENT, Listener, Progress
from loratwin.bench.options import Options
from loratwin.bench.prepare import context_of, prepare
from loratwin.bench.record_context import load_context
from loratwin.bench.result import run_from_journal, window_start_s
from loratwin.bench.running import RunningServers
from loratwin.bench.sampling import name_servers, sampling
from loratwin.bench.shared.job import Job
from loratwin.bench.shared.journal import RequestJournal
from loratwin.errors import DataError
from loratwin.records import Run
from loratwin.workload import Workload


def measure_window(
    workload: Workload, servers: RunningServers, options: Options, folder: Path, listener: Listener = SILENT
) -> Run:
    """Send a workload to servers that answer, and measure.

    Everything measured is in `folder` at any moment; the caller removes it when the record is written. Ctrl-C ends the
    window early: the record is then of what was measured until then (`was_interrupted`).

    Raises
    ------
    InputError
        A server or an adapter does not answer as it should before the window opens; the disk is full.
    """
    prepare(workload, servers, options, folder)
    with sampling(servers, options, folder) as sampled, ClientProcess(folder, options.headers) as client:
        trouble = follow(client, folder, listener, workload.window_s)
        ended_s = None if trouble is None else _end_s(folder)
        samples = sampled.take(window_start_s(folder), workload.window_s if ended_s is None else ended_s)
    listener.progress(Progress(DONE, 0.0, 0.0))
    context = context_of(workload, servers, options, samples)
    run = run_from_journal(folder, context, ended_s, [trouble] if trouble else [])
    return run.with_notes(sampled.notes())


def was_interrupted(run: Run) -> bool:
    """Whether somebody ended its window early."""
    return INTERRUPTED in run.invalid


def nothing_measured(folder: Path) -> bool:
    """Whether a benchmark ended before its first request was sent, so that its folder is of no use."""
    return not (folder / "window.json").exists() or not RequestJournal.open(folder).count("sent")


def recorded_servers(folder: Path, run: Run, step_logs: Sequence[Path]) -> RunningServers:
    """The servers of a benchmark as far as its folder and its record tell them; of several, as those of the first."""
    job = Job.load(folder)
    kv_tokens = (run.kv_tokens,) * len(job.urls)
    return RunningServers(job.urls, job.names, run.config, kv_tokens, step_logs=tuple(step_logs))


def recover(folder: Path) -> Run:
    """The record of a benchmark whose processes were killed.

    Raises
    ------
    DataError
        There is nothing measured in the folder, or it is damaged.
    """
    from loratwin.telemetry import read_journal

    context, start, ended_s = load_context(folder), window_start_s(folder), _end_s(folder)
    files = [*sorted(folder.glob("server-*.scrapes")), *folder.glob("gpu.samples")]
    sources = [read_journal(path, start, start, start + ended_s) for path in files]
    samples = name_servers([source for source in sources if source is not None])
    return run_from_journal(
        folder, replace(context, samples=samples), ended_s, ["the benchmark was killed; this is what it had measured"]
    )


def _end_s(folder: Path) -> float:
    """How far a window came that was cut short: the last thing that happened in it."""
    journal, start = RequestJournal.open(folder), window_start_s(folder)
    times = [journal.array(name) for name in ("sent_s", "first_token_s", "last_token_s", "finish_s")]
    last = np.nanmax(np.concatenate([*times, [start]])) - start
    if not last > 0:
        raise DataError(f"{folder}: ended before the first request was sent, there is nothing measured in it")
    return float(last)
