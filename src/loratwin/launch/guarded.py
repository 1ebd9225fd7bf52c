"""A command under a guard process: whatever happens to us, nothing of it stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from loratwin.errors import InputError
from loratwin.launch import guard

STOP_MARGIN_S = guard.LAST_WORDS_S + guard.KILL_S + 5.0
"""What the guard may take beyond the grace that it was given."""


class Guarded:
    """A running command; see `guard` for who stops it when.

    Raises
    ------
    InputError
        The command cannot be started, or the log cannot be written.
    """

    def __init__(self, command: Sequence[str], *, log: Path, env: Mapping[str, str]) -> None:
        control, self._control = os.pipe()
        self._status, status = os.pipe()
        script = [sys.executable, "-I", guard.__file__, str(control), str(status), str(os.getpid()), "--", *command]
        try:
            with open(log, "ab") as file:
                self._guard = subprocess.Popen(
                    script, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=dict(env),
                    pass_fds=(control, status), start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            self._close()
            raise InputError(f"cannot write {log}: {error.strerror or error}") from None
        finally:
            os.close(control)
            os.close(status)
        self.pid = self._started()
        """Process id of the command itself."""

    def _started(self) -> int:
        answer = os.read(self._status, 4096).decode(errors="replace")
        if not answer.isdigit():
            self._guard.wait()
            self._close()
            raise InputError(answer or "the guard process ended at once")
        return int(answer)

    def poll(self) -> int | None:
        """Exit code of the command (128 + signal if it was killed); None while it or a process of it runs."""
        return self._guard.poll()

    def processes(self) -> list[int]:
        """Ids of all its processes, by /proc; empty where there is none."""
        return guard.descendants(self._guard.pid)

    def stop(self, grace_s: float) -> None:
        """End it and everything it started: asked, after `grace_s` seconds killed. Can be called again."""
        with suppress(OSError):  # the guard has ended
            os.write(self._control, str(grace_s).encode())
        try:
            self._guard.wait(grace_s + STOP_MARGIN_S)
        except subprocess.TimeoutExpired:  # a process that even SIGKILL does not end: it waits for a device
            self._guard.kill()
        finally:
            self._close()

    def _close(self) -> None:
        for number in (self._control, self._status):
            if number >= 0:
                os.close(number)
        self._control = self._status = -1

    def __del__(self) -> None:
        if hasattr(self, "_control"):
            self._close()
