"""Progress of long work on stderr; nothing when stderr is not a terminal, but for one line per stage."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def staged_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A callback (what, done, of) that draws one bar for each stage."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, object] = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done)  # type: ignore[arg-type]

        yield report


def _lines() -> Callable[[str, int, int], None]:
    seen: set[str] = set()

    def report(what: str, done: int, of: int) -> None:
        if what not in seen:
            seen.add(what)
            print(f"{what} ({of})", file=sys.stderr)

    return report


def announce_compilation() -> None:
    """Say so when the kernel must be compiled first."""
    from loratwin.kernel import is_compiled

    if not is_compiled():
        print("compiling the kernel, once: about 15 s", file=sys.stderr)
