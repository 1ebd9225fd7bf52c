"""Makes one run of a grid in its folder: idempotent, killed at any moment, never twice at the same time.

What holds is in the folder. `state.json` is written last; who makes the run holds a lock on `lock`, which the operating
system lets go of when the process dies, however it does. So a run without state and with a free lock is to be made.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from loratwin.errors import LoratwinError
from loratwin.experiments.profilers import export
from loratwin.experiments.run_spec import LOCK, RECORD, STATE, WORKLOAD, RunSpec, read_run_spec

PROFILES = ("nsys.nsys-rep", "nsys.sqlite", "nsys-export.log", "ncu.ncu-rep", "ncu.csv")
"""What profilers leave."""

Stage = Literal["done", "failed", "running", "queued", "interrupted", "waiting"]
"""How far a run is: queued, as Slurm has it; interrupted, as it was begun and nobody is at it; waiting, never begun."""


@dataclass(frozen=True)
class RunState:
    """How a run ended.

    Parameters
    ----------
    stage
        done: its figures may be trusted; failed: the reason says why not.
    digest
        Of the run that was made; another one is made anew.
    summary
        Headline figures (`metrics.Summary`), where something was measured.
    """

    stage: Stage
    reason: str
    digest: str
    started: float  # seconds since 1970
    took_s: float
    host: str
    summary: dict[str, Any]


def read_state(folder: Path, digest: str | None = None) -> RunState:
    """How far a run is; of one that is not at its end, only the stage.

    Parameters
    ----------
    digest
        Of the run as it should be: an end of another one does not count. None: any does.
    """
    try:
        state = RunState(**json.loads((folder / STATE).read_text(encoding="utf-8")))
        if digest is None or state.digest == digest:
            return state
    except (OSError, ValueError, TypeError):
        pass
    return RunState(_unfinished(folder), "", "", 0.0, 0.0, "", {})


def _unfinished(folder: Path) -> Stage:
    lock = folder / LOCK
    if not lock.exists():
        return "waiting"
    with open(lock, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return "running"
    return "interrupted"


def make_run(folder: str, again: bool = False) -> str:
    """Make a run, unless it is done, or somebody else is at it. Returns how far it is.

    Parameters
    ----------
    folder
        With `run.json`.
    again
        Also if it failed before.

    Raises
    ------
    DataError
        The folder holds no run.
    KeyboardInterrupt
        It was interrupted (Ctrl-C; SIGTERM, as from Slurm): what was measured stays beside it; it can be made again.
    """
    place = Path(folder)
    spec = read_run_spec(place)
    with _locked(place) as mine:
        if not mine:
            return "running"
        before = read_state(place, spec.digest)
        if before.stage == "done" or (before.stage == "failed" and not again):
            return before.stage
        return _make(place, spec).stage


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    with open(folder / LOCK, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _make(folder: Path, spec: RunSpec) -> RunState:
    from loratwin.records import write_atomically

    _set_aside(folder)
    started = time.time()
    try:
        reason, summary = _measured(folder, spec)
    except LoratwinError as error:
        reason, summary = " ".join(str(error).split()), {}
    took_s, stage = time.time() - started, "failed" if reason else "done"
    state = RunState(stage, reason, spec.digest, started, took_s, socket.gethostname(), summary)  # type: ignore[arg-type]
    write_atomically(folder / STATE, json.dumps(asdict(state), indent=1) + "\n")
    return state


def _measured(folder: Path, spec: RunSpec) -> tuple[str, dict[str, Any]]:
    """Why the run does not count (empty: it does), and its figures."""
    from loratwin.bench import LaunchedServers, Listener, Options, load_requests, measure, was_interrupted
    from loratwin.metrics import summarize
    from loratwin.records.plain import as_plain

    requests = load_requests(folder / WORKLOAD, spec.seed, spec.window_s)
    servers = LaunchedServers(
        spec.server_args, spec.engine, spec.server_command(folder), steps=spec.steps, timeout_s=spec.start_timeout_s,
        lora_folder=spec.lora_folder,
    )  # fmt: skip
    options = Options(
        api=spec.api, in_flight=spec.in_flight, prompts=spec.prompts, warm_up=spec.warm_up, preload=spec.preload,  # type: ignore[arg-type]
    )  # fmt: skip
    with _environment(spec), _terminable():
        run = measure(requests, servers, folder / RECORD, options=options, force=True, listener=Listener(print))
    if was_interrupted(run):  # what was measured is kept, and the run is to be made again
        raise KeyboardInterrupt
    if trouble := export(spec.profiler, folder):
        print(trouble)
    return "; ".join(run.invalid), as_plain(summarize(run))


@contextmanager
def _environment(spec: RunSpec) -> Iterator[None]:
    """That of the server; what is started inherits it."""
    before = {name: os.environ.get(name) for name in spec.environment}
    os.environ.update(spec.environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, as from Slurm at its time limit, ends a measurement as Ctrl-C does."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _set_aside(folder: Path) -> None:
    """What an attempt left that was killed, or failed: kept under another name, in nobody's way."""
    (folder / STATE).unlink(missing_ok=True)
    names = (f"{RECORD}.partial", f"{Path(RECORD).stem}-logs", RECORD, *PROFILES)
    there = [folder / name for name in names if (folder / name).exists()]
    if not there:
        return
    number = 1 + len(list(folder.glob("attempt-*")))
    attempt = folder / f"attempt-{number}"
    attempt.mkdir()
    for path in there:
        shutil.move(str(path), attempt / path.name)
