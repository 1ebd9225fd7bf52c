"""Files of fixed-size rows: a line of JSON that says what the columns are, then the rows as they lie in memory.

Rows are kept in memory and written by a thread of their own, so that a step costs no system call; what was written
survives kill -9. A reader drops a last row that is not complete.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing import util
from typing import Any

FOLDER_VARIABLE = "LORATWIN_PROBE_LOG"

FLUSH_EVERY_S = 0.5

_log = logging.getLogger("loratwin_vllm_probe")


def note(text: str) -> None:
    """Write a line to the server's log and to the notes beside the rows."""
    _log.warning("loratwin probe: %s", text)
    try:
        with open(os.path.join(os.environ[FOLDER_VARIABLE], "notes.txt"), "a", encoding="utf-8") as file:
            file.write(text.replace("\n", " ") + "\n")
    except Exception:  # the probe never takes the server down
        _log.exception("loratwin probe: cannot write notes")


class RowFile:
    """Rows of one kind, written by this process.

    Parameters
    ----------
    kind
        First part of the file's name; process id and the clock make it unique.
    columns
        Name and `struct` code of each column, little-endian without padding.
    facts
        Further entries of the first line.
    """

    def __init__(self, kind: str, columns: tuple[tuple[str, str], ...], facts: dict[str, Any]) -> None:
        self._pack = struct.Struct("<" + "".join(code for _, code in columns)).pack
        self._rows: deque[bytes] = deque()  # thread-safe at both ends
        self._writing = threading.Lock()
        folder = os.environ[FOLDER_VARIABLE]
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"{kind}-{os.getpid()}-{time.monotonic_ns()}.bin")
        self._file: int | None = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        head = {"format": 1, "kind": kind, "pid": os.getpid(), "columns": columns, **facts}
        self._write(json.dumps(head).encode() + b"\n")
        _flush_at_exit(self.flush)
        threading.Thread(target=self._keep_flushing, name="loratwin-probe", daemon=True).start()

    def add(self, *row: float) -> None:
        """Keep one row for the next flush."""
        self._rows.append(self._pack(*row))

    def flush(self) -> None:
        """Write what is kept; a failure is noted and ends the file at its last complete write."""
        with self._writing:
            try:
                self._write(b"".join([self._rows.popleft() for _ in range(len(self._rows))]))
            except Exception as error:
                self._file = None
                note(f"the log ends here: {error}")

    def _write(self, data: bytes) -> None:
        while data and self._file is not None:
            data = data[os.write(self._file, data) :]

    def _keep_flushing(self) -> None:
        while self._file is not None:
            time.sleep(FLUSH_EVERY_S)
            self.flush()


def _flush_at_exit(flush: Callable[[], None]) -> None:
    """A forked child of multiprocessing runs its own list at exit, not atexit's."""
    atexit.register(flush)
    util.Finalize(None, flush, exitpriority=100)
