"""What `loratwin bench` shows while it measures: a bar with live figures, or a line for each phase in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from loratwin.bench import Progress


@contextmanager
def watching() -> Iterator[Callable[[Progress], None]]:
    """A callback that shows progress on stderr."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True, refresh_per_second=2) as bars:
        task = bars.add_task("starting", total=None, figures="")

        def show(now: Progress) -> None:
            total = now.of_s if now.phase == "window" else None
            bars.update(task, description=now.phase, total=total, completed=now.elapsed_s, figures=figures(now))

        yield show


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


def _lines() -> Callable[[Progress], None]:
    seen: set[str] = set()

    def show(now: Progress) -> None:
        if now.phase not in seen:
            seen.add(now.phase)
            of = f" ({now.of_s:g} s)" if now.phase == "window" else f" ({now.of_s:.0f} requests)" if now.of_s else ""
            print(f"{now.phase}{of}", file=sys.stderr, flush=True)

    return show
