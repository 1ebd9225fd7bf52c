"""The guard: a small process that owns a server and everything it starts, and lets none of it outlive us.

It runs as a script (standard library only, so that it starts at once) in a session of its own:

    python -I guard.py CONTROL STATUS CLIENT -- COMMAND...

CONTROL is the reading end of a pipe whose other end only the client (our process) holds. A number written there means:
stop, with so many seconds of grace. The end of the pipe means that the client is gone, killed -9 included; so does
another parent than the process CLIENT. To STATUS the guard writes the server's process id, or why it was not started.

On Linux the guard is a *child subreaper* (prctl(2)): processes whose parent ends become its children and not those of
process 1. So it can find all descendants, those with a session of their own too. Elsewhere only the server itself is
stopped. It exits as the server did; 128 + signal for one that was killed.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h

CLIENT_GONE_GRACE_S = 3.0
LAST_WORDS_S = 1.0  # for what the server leaves behind; resource trackers of Python clean up in this time
KILL_S = 10.0
POLL_S = 0.2
CANNOT_START = 127


class Guard:
    """The server and how it ends."""

    def __init__(self, control: int, client: int) -> None:
        self.control = control
        self.client = client
        self.stop_asked = False
        self.server = 0
        self.exit_code: int | None = None

    def start(self, command: list[str]) -> None:
        """Start the server as the leader of a session of its own; it is killed when the guard is."""
        libc = _libc()
        if libc is not None:
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)

        def with_guard() -> None:
            if libc is not None:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

        self.server = subprocess.Popen(command, start_new_session=True, preexec_fn=with_guard).pid

    def _ask_to_stop(self, number: int, frame: object) -> None:
        self.stop_asked = True

    def watch(self) -> float:
        """Wait until the server ends or is to end; seconds of grace that it has."""
        while self.exit_code is None and not self.stop_asked:
            readable, _, _ = select.select([self.control], [], [], POLL_S)
            message = os.read(self.control, 64) if readable else None
            if message == b"" or os.getppid() != self.client:
                break
            if message:
                return float(message)
            self.reap()
        return CLIENT_GONE_GRACE_S

    def end(self, grace_s: float) -> int:
        """First the server is asked, so that it stops its own processes; then these; then all are killed."""
        if self.exit_code is None:
            send(signal.SIGTERM, [self.server])
            self._wait(grace_s, lambda: self.exit_code is not None)
        if self._left():
            send(signal.SIGTERM, self._left())
            self._wait(LAST_WORDS_S, lambda: not self._left())
        self._wait(KILL_S, self._kill)
        return self.exit_code if self.exit_code is not None else 128 + signal.SIGKILL

    def _kill(self) -> bool:
        left = self._left()
        send(signal.SIGKILL, left)
        return not left

    def _left(self) -> list[int]:
        if _has_proc():
            return descendants(os.getpid())
        return [self.server] if self.exit_code is None else []

    def _wait(self, seconds: float, done: Callable[[], bool]) -> None:
        end = time.monotonic() + seconds
        while not done() and time.monotonic() < end:
            self.reap()
            time.sleep(0.02)
        self.reap()

    def reap(self) -> None:
        """Take the exit codes of all children that ended, the adopted ones too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.server:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code


def send(number: int, pids: Iterable[int]) -> None:
    """Send a signal to processes, those that are gone aside."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):  # a process that became another user's is beyond us
            os.kill(pid, number)


def descendants(root: int) -> list[int]:
    """Living processes (no zombies) that descend from process `root`, by /proc; empty where there is none."""
    children: dict[int, list[int]] = {}
    alive = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_bytes().rpartition(b")")[2].split()[:2]  # the name before may hold anything
        except (OSError, ValueError):
            continue  # ended meanwhile
        pid = int(stat.parent.name)
        children.setdefault(int(parent), []).append(pid)
        if state not in (b"Z", b"X"):
            alive.add(pid)
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return [pid for pid in found if pid in alive]


def _has_proc() -> bool:
    return os.path.exists("/proc/self/stat")


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def main(arguments: list[str]) -> int:
    """Start, watch, end."""
    control, status, client = (int(argument) for argument in arguments[:3])
    guard = Guard(control, client)
    try:
        guard.start(arguments[4:])
    except OSError as error:
        os.write(status, f"cannot start {arguments[4]}: {error.strerror}".encode())
        return CANNOT_START
    os.write(status, str(guard.server).encode())
    os.close(status)
    return guard.end(guard.watch())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
