"""Something done again and again at instants that are fixed beforehand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from loratwin.errors import InputError

LEAST_PERIOD_S = 0.01
"""A shorter one would do nothing but note the ticks that it missed."""

_LATE = 0.1
"""Share of the period by which a tick may be late before it counts as missed."""


def check_period(every_s: float, what: str) -> None:
    """Refuse a period that no cadence can have; `what` is sampled, or the option that says how often.

    Raises
    ------
    InputError
        It is too short, or no number of seconds.
    """
    if not LEAST_PERIOD_S <= every_s < float("inf"):
        raise InputError(f"{what}: every {every_s:g} s; it must be {LEAST_PERIOD_S:g} s or more")


class Cadence:
    """Calls `take` at start + k x `every_s` on `time.monotonic`, in a thread of its own.

    A slow call shifts no later one: the ticks that it sleeps through are given to `miss`, with the time they were due.
    """

    def __init__(self, every_s: float, take: Callable[[], None], miss: Callable[[float], None]) -> None:
        self._every_s, self._take, self._miss = every_s, take, miss
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loratwin-cadence", daemon=True)

    def start(self) -> None:
        """Begin; the first tick is now."""
        self._thread.start()

    def stop(self, wait_s: float) -> bool:
        """Take no further one; whether the thread has ended within `wait_s`."""
        self._ended.set()
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        start_s, tick = time.monotonic(), 0
        while not self._ended.wait(max(0.0, start_s + tick * self._every_s - time.monotonic())):
            tick = self._pass(start_s, tick, 1.0)  # on a busy machine we may wake when the next is due already
            self._take()
            tick = self._pass(start_s, tick + 1, _LATE)

    def _pass(self, start_s: float, tick: int, late: float) -> int:
        """Miss the ticks that are late by this share of the period; the first that is not."""
        while (due_s := start_s + tick * self._every_s) + late * self._every_s < time.monotonic():
            self._miss(due_s)
            tick += 1
        return tick
