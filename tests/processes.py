"""Waiting for what other processes do, with a limit that a busy machine keeps; what is known is said where it does not.

Children of the tests have `PYTHONFAULTHANDLER` set (`conftest.py`): one that hangs says where, when it is aborted.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

LIMIT_S = 300.0
"""Of what takes seconds on a free machine."""


def ended(process: subprocess.Popen[Any], limit_s: float = LIMIT_S) -> tuple[Any, Any]:
    """What a process has written on its pipes, at its end; one that does not end is aborted, and the test fails."""
    try:
        return process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        pytest.fail(f"{process.args!r} has not ended within {limit_s:.0f} s:\n{_aborted(process)!r}")


def _aborted(process: subprocess.Popen[Any]) -> object:
    process.send_signal(signal.SIGABRT)
    try:
        return process.communicate(timeout=10)
    except subprocess.TimeoutExpired as still:  # somebody else holds its pipes
        return still.output, still.stderr
    finally:
        process.kill()


def line_of(process: subprocess.Popen[str], limit_s: float = LIMIT_S) -> str:
    """The next line that a process writes, without its end; one that says nothing is aborted, and the test fails."""
    assert process.stdout is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.append(process.stdout.readline()), daemon=True)
    reader.start()
    reader.join(limit_s)
    if not lines:
        process.send_signal(signal.SIGABRT)
        pytest.fail(f"{process.args!r} has written no line within {limit_s:.0f} s")
    return lines[0].removesuffix("\n")


def until(
    condition: Callable[[], object],
    process: subprocess.Popen[Any] | None = None,
    limit_s: float = LIMIT_S,
    every_s: float = 0.005,
) -> None:
    """Wait until a condition holds; a process that must live meanwhile does."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert process is None or process.poll() is None, (process.args, process.communicate(timeout=10))
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {condition}"
        time.sleep(every_s)
