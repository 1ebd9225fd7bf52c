"""Progress of long work on stderr: bars on a terminal, in a pipe lines. And how it may be stopped."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loratwin.formatting import seconds

if TYPE_CHECKING:
    from loratwin.bench import Listener, Progress


LINE_S = 60.0
"""Seconds between lines where there is no terminal."""


@contextmanager
def staged_progress(compiles: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (what, done, of) that draws one bar for each stage; in a pipe a line for each and one a minute.

    Parameters
    ----------
    compiles
        The twin runs, so that its kernel may have to be compiled first: then this is said.
    """
    if compiles:
        announce_compilation()
    if not sys.stderr.isatty():
        with stage_lines() as report:
            yield report
        return
    from rich.progress import MofNCompleteColumn

    with _bars(MofNCompleteColumn()) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done)

        yield report


@contextmanager
def stage_lines(every_s: float = LINE_S, announce: bool = True) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (what, done, of): a line when a stage begins (if announced), and so often one of how far it is.

    The lines come from a thread, since a single task may take longer than that.
    """
    stage, begun_s, ended = _Stage(), time.monotonic(), threading.Event()

    def watch() -> None:
        while not ended.wait(every_s):
            if stage.what:
                _say(f"{stage.what}: {stage.done} of {stage.of}, {seconds(time.monotonic() - begun_s)} so far")

    def report(what: str, done: int, of: int) -> None:
        stage.done, stage.of, stage.what = done, of, what
        if announce:
            _once(what, f"{what} ({of})", stage.seen)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield report
    finally:
        ended.set()
        watcher.join()


@dataclass
class _Stage:
    """What is done now, and what was begun before."""

    what: str = ""
    done: int = 0
    of: int = 0
    seen: set[str] = field(default_factory=set)


@contextmanager
def measuring() -> Iterator[Listener]:
    """A listener for measurements; SIGTERM, as from Slurm at its time limit, ends them as Ctrl-C does."""
    from loratwin.bench import Listener

    shown = _RunBar() if sys.stderr.isatty() else _RunLines()
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield Listener(_say, shown.show)
    finally:
        signal.signal(signal.SIGTERM, before)
        shown.end()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class _RunBar:
    """A bar with live figures for each run; gone when the run is done."""

    def __init__(self) -> None:
        self._bars: Any = None

    def show(self, now: Progress) -> None:
        if now.phase == "done":
            self.end()
            return
        if self._bars is None:
            from rich.progress import TextColumn

            self._bars = _bars(TextColumn("{task.fields[figures]}"), refresh_per_second=2)
            self._bars.add_task("starting", total=None, figures="")
            self._bars.start()
        total = now.of_s if now.phase == "window" else None
        (task,) = self._bars.task_ids
        self._bars.update(task, description=now.phase, total=total, completed=now.elapsed_s, figures=figures(now))

    def end(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


class _RunLines:
    """A line for each phase of a run."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def show(self, now: Progress) -> None:
        if now.phase == "done":
            self.end()
            return
        of = f" ({now.of_s:g} s)" if now.phase == "window" else f" ({now.of_s:.0f} requests)" if now.of_s else ""
        _once(now.phase, f"{now.phase}{of}", self._seen)

    def end(self) -> None:
        self._seen.clear()


def figures(now: Progress) -> str:
    """Running totals of a measurement in a line."""
    if now.phase != "window":
        return f"{now.of_s:.0f} requests" if now.of_s else ""
    elapsed = max(now.elapsed_s, 1e-3)
    failed = f", {now.failed:,} FAILED" if now.failed else ""
    return (
        f"sent {now.sent:,}, finished {now.finished:,}{failed}, in flight {now.in_flight:,}, "
        f"{now.sent / elapsed:,.1f} requests/s, {now.tokens / elapsed:,.0f} tokens/s"
    )


@contextmanager
def simulations() -> Iterator[Callable[[int, int, str], None]]:
    """One bar on stderr, whose end moves as more simulations turn out to be needed; in a pipe a line a minute.

    Says so first when the kernel must be compiled.
    """
    announce_compilation()
    if not sys.stderr.isatty():
        with stage_lines(announce=False) as report:
            yield lambda done, total, what: report(f"simulating ({what})", done, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    what = TextColumn("{task.description}")
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), what)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=None)
        yield lambda done, total, what: bars.update(bar, completed=done, total=total, description=what)


@contextmanager
def counted_runs(of: int) -> Iterator[Callable[[int], None]]:
    """A callback (done) that draws one bar on a terminal, where there is more than one run to wait for.

    Says so first when the kernel must be compiled.

    Parameters
    ----------
    of
        How many runs there are.
    """
    announce_compilation()
    if of == 1 or not sys.stderr.isatty():
        yield lambda done: None
        return
    with staged_progress() as report:
        yield lambda done: report("simulating", done, of)


def announce_compilation() -> None:
    """Say so when the kernel must be compiled first."""
    from loratwin.kernel import is_compiled

    if not is_compiled():
        _say("compiling the kernel, once: about 15 s")


def _bars(last: Any, **options: Any) -> Any:
    """Bars on stderr that are gone in the end; `last` is the column before the remaining time."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), last, TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, **options)


def _once(what: str, line: str, seen: set[str]) -> None:
    if what not in seen:
        seen.add(what)
        _say(line)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
