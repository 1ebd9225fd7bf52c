"""The load client's process, seen from the one that started it: started, followed, stopped."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from loratwin.bench.listener import Listener, Progress
from loratwin.bench.shared.job import HEADERS_VARIABLE
from loratwin.bench.shared.journal import RequestJournal
from loratwin.bench.shared.left_out import what_it_costs
from loratwin.errors import InputError

WATCH_S = 0.5
DEAD_SERVER_S = 30.0
"""A server that answers nothing for so long, while requests fail, ends the run."""

INTERRUPTED = "interrupted by the user"

WARNED_S = 5.0
"""When whoever waits is told so, and may end it now."""

_GRACE_S = 10.0


class ClientProcess:
    """The load client's process. Its stdin closes when we die, and then it stops too."""

    def __init__(self, folder: Path, headers: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loratwin.bench.worker", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, HEADERS_VARIABLE: json.dumps(dict(headers))},
        )
        self.lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> ClientProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def stop(self) -> None:
        """Ask it to end; what is on its way is cut off."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def exit_code(self) -> int:
        """Its exit status, once it has ended."""
        return self._process.wait(_GRACE_S)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with suppress(ValueError):
                    self.lines.put(json.loads(line))
        self.lines.put({"ended": True})


def follow(client: ClientProcess, folder: Path, listener: Listener, window_s: float) -> str | None:
    """Follow the load client to its end; why it ended early, or None.

    Raises
    ------
    InputError
        What goes wrong before the window opens.
    """
    following = _Following(folder, listener, window_s)
    try:
        while not following.ended:
            following.take(client)
        return following.reason(client)
    except KeyboardInterrupt:
        client.stop()
        if not following.anything_sent():
            raise
        return INTERRUPTED


class _Following:
    """Where the load client is."""

    def __init__(self, folder: Path, listener: Listener, window_s: float) -> None:
        self._folder, self._watch, self._tell, self._window_s = folder, listener.progress, listener.line, window_s
        self._journal = RequestJournal.open(folder)
        self._phase, self._since_s, self._of = "starting", monotonic(), 0
        self.start_s: float | None = None
        self.done = self.ended = False
        self._dead: str | None = None
        self._warned = False
        self._answered = 0
        self._answered_at_s = monotonic()

    def take(self, client: ClientProcess) -> None:
        """Wait for the next line, or for some time, and look."""
        with suppress(queue.Empty):
            self._line(client.lines.get(timeout=WATCH_S))
        if self._phase == "window" and not self.done:
            self._window(client)
        else:
            self._watch(Progress(self._phase, monotonic() - self._since_s, float(self._of)))

    def anything_sent(self) -> bool:
        """Whether there is something measured to keep: the window opens a little before its first request."""
        return self.start_s is not None and self._journal.count("sent") > 0

    def reason(self, client: ClientProcess) -> str | None:
        """Why it ended early."""
        if self._dead is not None:
            return self._dead
        if self.done and self.start_s is not None:
            return None
        if self.start_s is None:
            raise InputError(f"the load client ended (exit status {client.exit_code()}) before the window opened")
        return f"the load client was killed (exit status {client.exit_code()})"

    def _line(self, line: dict[str, Any]) -> None:
        if "error" in line:
            raise InputError(line["error"])
        if line.get("ended"):
            self.ended = True
        elif line.get("phase") == "done":
            self.done = True
        elif "left_out" in line:
            for cost in what_it_costs(line["left_out"]):
                self._tell(cost)
        elif "phase_done" in line:
            _check_phase(line)
        elif "phase" in line:
            self._phase, self._since_s, self._of = line["phase"], monotonic(), line.get("of", 0)
            self.start_s = line.get("start_s", self.start_s)  # there may be a phase after the window, too
            self._answered_at_s = monotonic()

    def _window(self, client: ClientProcess) -> None:
        assert self.start_s is not None
        count = self._journal.count
        failed, finished, tokens = count("failed"), count("finished"), count("tokens")
        elapsed = monotonic() - self.start_s
        self._watch(
            Progress("window", elapsed, self._window_s, count("sent"), finished, failed, count("in_flight"), tokens)
        )
        if tokens + finished > self._answered or not failed:
            self._answered, self._answered_at_s = tokens + finished, monotonic()
            self._warned = False
        elif not self._warned and monotonic() - self._answered_at_s > WARNED_S:
            self._warned = True
            self._tell(
                f"the server has answered nothing for {WARNED_S:.0f} s, and {failed:,} requests failed: Ctrl-C ends "
                f"the run and keeps what was measured; it ends by itself after {DEAD_SERVER_S:.0f} s of this"
            )
        elif self._dead is None and monotonic() - self._answered_at_s > DEAD_SERVER_S:
            self._dead = f"the server answered nothing for {DEAD_SERVER_S:.0f} s while requests failed: ended early"
            client.stop()


def _check_phase(line: dict[str, Any]) -> None:
    """Before the window opens, every request must be answered: a fault is then a fault of the set-up."""
    failed, details = line["failed"], line["details"]
    if failed:
        name, kind = next(iter(failed.items()))
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise InputError(f"{line['phase_done']}: {name!r}{more}: {kind} {details.get(kind, '')}".rstrip())
    if line["unanswered"]:
        raise InputError(f"{line['phase_done']}: {line['unanswered']} requests not answered in {line['took_s']:.0f} s")
