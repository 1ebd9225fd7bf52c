"""What is shown on stderr while a server is measured: a bar with live figures, or a line for each phase in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from loratwin.bench import Listener, Progress
from loratwin.bench.listener import DONE


@contextmanager
def watching() -> Iterator[Listener]:
    """A listener that shows lines and progress on stderr."""
    shown = _Bar() if sys.stderr.isatty() else _Lines()
    try:
        yield Listener(say, shown.show)
    finally:
        shown.end()


def say(line: str) -> None:
    """A line on stderr, at once."""
    print(line, file=sys.stderr, flush=True)


class _Bar:
    """One for each run; it is gone when the run is done."""

    def __init__(self) -> None:
        self._bars: Any = None

    def show(self, now: Progress) -> None:
        if now.phase == DONE:
            self.end()
            return
        if self._bars is None:
            self._begin()
        total = now.of_s if now.phase == "window" else None
        self._bars.update(
            self._bars.task_ids[0], description=now.phase, total=total, completed=now.elapsed_s, figures=figures(now)
        )

    def end(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn(),
            console=Console(stderr=True), transient=True, refresh_per_second=2,
        )  # fmt: skip
        self._bars.add_task("starting", total=None, figures="")
        self._bars.start()


class _Lines:
    """A line for each phase of a run."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def show(self, now: Progress) -> None:
        if now.phase == DONE:
            self.end()
        elif now.phase not in self._seen:
            self._seen.add(now.phase)
            of = f" ({now.of_s:g} s)" if now.phase == "window" else f" ({now.of_s:.0f} requests)" if now.of_s else ""
            say(f"{now.phase}{of}")

    def end(self) -> None:
        self._seen.clear()


def figures(now: Progress) -> str:
    """Running totals in a line."""
    if now.phase != "window":
        return f"{now.of_s:.0f} requests" if now.of_s else ""
    elapsed = max(now.elapsed_s, 1e-3)
    failed = f", {now.failed:,} FAILED" if now.failed else ""
    return (
        f"sent {now.sent:,}, finished {now.finished:,}{failed}, in flight {now.in_flight:,}, "
        f"{now.sent / elapsed:,.1f} requests/s, {now.tokens / elapsed:,.0f} tokens/s"
    )
