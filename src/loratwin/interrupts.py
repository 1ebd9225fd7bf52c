"""Ctrl-C, seen only where it can do no harm.

Python raises `KeyboardInterrupt` between any two of its instructions: also after a `with` has taken a lock of a future
and before it is sure to give it back. The thread that hands out tasks then waits for that lock for ever, and whoever
was interrupted for that thread. Or it is raised in a function that compiled code has called, as pydantic calls a
serializer, and comes out as an error of that code, or not at all.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM") if hasattr(signal, name))


class Interrupts:
    """While entered, signals that raise in this process are kept until `check` is called or `seen` is entered.

    Signals that nothing in Python handles (SIGTERM by default) end the process as ever. Outside the main thread there
    are none.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._came: list[int] = []
        self._seen = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if callable(signal.getsignal(number)):
                    self._before[number] = signal.signal(number, self._keep)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, handler)
        if error is None:
            self._tell(before)

    def check(self) -> None:
        """Let those be seen that came."""
        self._tell(self._before)

    @contextmanager
    def seen(self) -> Iterator[None]:
        """Within, they are seen at once: for what holds no lock that another thread needs.

        One that was swallowed or turned into another error by what it interrupted is told again.
        """
        self._seen = True
        try:
            self.check()
            yield
            self.check()
        except Exception:
            self.check()
            raise
        finally:
            self._seen = False

    def _tell(self, handlers: dict[int, Any]) -> None:
        while self._came:
            number = self._came.pop(0)
            handlers[number](number, None)

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self._came.append(number)
        if self._seen:
            self._before[number](number, frame)
            self._came.remove(number)  # not reached where that raises: nobody knows yet whether it gets through
