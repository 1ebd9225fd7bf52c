"""The minutes of a calibration, kept: what still fits is judged by what starts and runs have taken so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from time import monotonic

from loratwin.calibrate.checks.loads import NUM_LOADS, REPEATS, WINDOW_S
from loratwin.calibrate.design import OVERHEAD_S, START_S

_CHECK_PART = 0.5
"""Time of a check, as part of that for the design."""

_LEAST_WINDOW_S = 6.0
"""Of a check's workload, which at most takes `loads.WINDOW_S`: in fewer seconds each of them is another."""

_TWICE_FROM_S = 12.0
"""Windows so long come before repetitions."""

_RECENT = 6
"""Runs whose time beyond their window says what the next will take."""


def check_times(minutes: float, num_servers: int) -> tuple[float, int]:
    """Seconds of each workload of a check, and its measurements, beside so many minutes for the design.

    By what starts and runs usually take, not by what they took: a check that goes on must come to the same.
    """
    left = 60 * _CHECK_PART * minutes - START_S * num_servers
    windows_s = {repeats: left / (NUM_LOADS * num_servers * repeats) - OVERHEAD_S for repeats in (REPEATS, 1)}
    repeats = REPEATS if windows_s[REPEATS] >= _TWICE_FROM_S else 1
    return round(min(max(windows_s[repeats], _LEAST_WINDOW_S), WINDOW_S), 1), repeats


@dataclass
class Budget:
    """Seconds to measure in, from now on.

    Parameters
    ----------
    seconds
        Starts of servers, warm-ups and reference loads included.
    reserved_s
        Of these, what later servers need for their runs, each once.
    """

    seconds: float
    reserved_s: float = 0.0
    clock: Callable[[], float] = monotonic
    _starts: list[float] = field(default_factory=list)
    _beyond: list[float] = field(default_factory=list)
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()

    @property
    def left_s(self) -> float:
        """Seconds that are left, those for later servers included."""
        return self.seconds - (self.clock() - self._began)

    @property
    def start_s(self) -> float:
        """What a start of a server takes: as seen, else as a design has it."""
        return fmean(self._starts) if self._starts else START_S

    def run_s(self, window_s: float) -> float:
        """What a run takes, by those before it."""
        return window_s + (fmean(self._beyond[-_RECENT:]) if self._beyond else OVERHEAD_S)

    def server_s(self, windows_s: Sequence[float]) -> float:
        """What a server takes with runs of these windows."""
        return self.start_s + sum(map(self.run_s, windows_s))

    def holds(self, window_s: float, repeats: bool = True) -> bool:
        """Whether a further run fits; one that repeats another, beside what is reserved."""
        return self.run_s(window_s) <= self.left_s - (self.reserved_s if repeats else 0.0)

    def started(self, took_s: float) -> None:
        """A server was started in so many seconds."""
        self._starts.append(took_s)

    def ran(self, window_s: float, took_s: float) -> None:
        """A run of such a window took so many seconds."""
        self._beyond.append(max(0.0, took_s - window_s))
