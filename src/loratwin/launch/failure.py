"""Why a server did not start, in its own words."""

from __future__ import annotations

import re
from pathlib import Path

from loratwin.errors import LoratwinError

TAIL_BYTES = 200_000
MOST_LINES = 3
MOST_CHARACTERS = 400


class ServerError(LoratwinError):
    """A server did not start, or does not do what it was asked for."""


_SAYS_WHY = re.compile(r"(^|[\s.])(\w*(Error|Exception|Exit)\b.*:|[Ee]rror[:,] |\[Errno \d+\]|Killed\b)")

# What follows from an error, or announces it, and says nothing of it; warnings.
_NO_REASON = re.compile(
    r"Engine core initialization failed|See root cause above|During handling of|Traceback \(most|"
    r"validation errors? for \w+$|^(\(\w[^)]*pid=\d+\)\s*)?(INFO|WARNING) "
)

# "(EngineCore_0 pid=12) ERROR 11-21 12:34:21 [core.py:133] " before what is said.
_PREFIX = re.compile(r"^(\(\w[^)]*pid=\d+\)\s*)?((ERROR|CRITICAL|WARNING|INFO)\s+[\d-]+ [\d:,]+ )?(\[[\w.]+:\d+\]\s*)?")


def last_lines(log: Path, num_bytes: int = TAIL_BYTES) -> list[str]:
    """The end of a log, without what an engine writes before each line, and without empty lines."""
    lines = (_PREFIX.sub("", line).strip() for line in _tail(log, num_bytes))
    return [line for line in lines if line]


def _tail(log: Path, num_bytes: int) -> list[str]:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - num_bytes))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def telling_lines(log: Path) -> str:
    """The last few different lines that say why, else the last line; on one line."""
    said = (line for line in _tail(log, TAIL_BYTES) if not _NO_REASON.search(line))
    reasons = [line for line in (_PREFIX.sub("", each).strip() for each in said) if _SAYS_WHY.search(line)]
    chosen = _without_echoes(reasons)[-MOST_LINES:] or last_lines(log)[-1:]
    return " | ".join(line[:MOST_CHARACTERS] for line in chosen) or "nothing was logged"


def _without_echoes(reasons: list[str]) -> list[str]:
    """Each once, and none that only wraps what one before it said ("Worker failed with error '...'")."""
    kept: list[str] = []
    for line in reasons:
        if not any(_message(one) in line for one in kept):
            kept.append(line)
    return kept


def _message(line: str) -> str:
    """What stands behind the name of the error; the whole line where there is none."""
    return line.partition(": ")[2].rstrip(".") or line
