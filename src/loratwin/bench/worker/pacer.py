"""Wake up at absolute times, some 50 microseconds late at most on an idle core.

asyncio's own timers (and uvloop's) are rounded to a millisecond, which glues arrivals together: their gaps then fail
every test for an exponential distribution from about 100 requests/s on. A timer of the Linux kernel (timerfd) is a
file that becomes readable at the very time.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_NONBLOCKING_CLOEXEC = 0o4000 | 0o2000000


class Pacer(Protocol):
    """Calls back once at the time that was set last."""

    def set(self, at_s: float) -> None:
        """Wake up at this time on the monotonic clock (at once if it is past)."""

    def close(self) -> None:
        """Never wake up again."""


def make_pacer(loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> Pacer:
    """The most precise one that the system has."""
    if sys.platform == "linux":
        return TimerFd(loop, wake)
    return LoopTimer(loop, wake)


class _TimeSpec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _TimerSpec(ctypes.Structure):
    _fields_ = [("interval", _TimeSpec), ("value", _TimeSpec)]


class TimerFd:
    """A kernel timer; Python has `os.timerfd_create` from 3.13 on only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCKING_CLOEXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop, self._wake = loop, wake
        self._spec = _TimerSpec()
        loop.add_reader(self._file, self._ready)

    def set(self, at_s: float) -> None:
        """See `Pacer`."""
        nanoseconds = max(int(at_s * 1e9), 1)  # 0 would disarm it
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(self._spec), None)

    def close(self) -> None:
        """See `Pacer`."""
        self._loop.remove_reader(self._file)
        os.close(self._file)

    def _ready(self) -> None:
        try:
            os.read(self._file, 8)
        except BlockingIOError:  # it was set anew in between
            return
        self._wake()


class LoopTimer:
    """Where there is no timerfd: the event loop's own timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop, self._wake = loop, wake
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at_s: float) -> None:
        """See `Pacer`."""
        self.close()
        self._handle = self._loop.call_later(max(at_s - time.monotonic(), 0), self._wake)

    def close(self) -> None:
        """See `Pacer`."""
        if self._handle is not None:
            self._handle.cancel()
