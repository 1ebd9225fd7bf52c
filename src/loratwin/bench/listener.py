"""Who is told how long work goes on: nobody, a notebook, or the command line's progress bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

DONE = "done"
"""The phase after the window: nothing more is measured."""


@dataclass(frozen=True)
class Progress:
    """What is going on.

    Parameters
    ----------
    phase
        "starting", those before the window, "window", and `DONE`.
    elapsed_s
        Seconds since the phase began.
    of_s
        Seconds of the window; of a phase before it, the number of its requests.
    sent, finished, failed, in_flight, tokens
        Running totals of the window: requests, and output tokens.
    """

    phase: str
    elapsed_s: float
    of_s: float
    sent: int = 0
    finished: int = 0
    failed: int = 0
    in_flight: int = 0
    tokens: int = 0


def _ignore(_: object) -> None:
    pass


@dataclass(frozen=True)
class Listener:
    """Callbacks of whoever waits for a measurement; `Listener(line=print)` is enough for a notebook.

    Parameters
    ----------
    line
        Called with a line of text at each stage: a server that is started, a run, a file.
    progress
        Called about twice a second while a run is measured, in the thread that measures.
    """

    line: Callable[[str], None] = _ignore
    progress: Callable[[Progress], None] = _ignore


SILENT = Listener()
