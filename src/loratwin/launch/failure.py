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


_SAYS_WHY = re.compile(r"(^|[\s.])(\w*(Error|Exception|Exit)\b.*:|error:|\[Errno \d+\]|Killed\b|\w*OutOfMemory)")

# What follows from the first error, and says nothing of it.
_CONSEQUENCES = re.compile(
    r"Engine core initialization failed|See root cause above|During handling of|Traceback \(most"
)

# "(EngineCore_0 pid=12) ERROR 11-21 12:34:21 [core.py:133] " before what is said.
_PREFIX = re.compile(r"^(\(\w[^)]*pid=\d+\)\s*)?((ERROR|CRITICAL|WARNING|INFO)\s+[\d-]+ [\d:,]+ )?(\[[\w.]+:\d+\]\s*)?")


def last_lines(log: Path, num_bytes: int = TAIL_BYTES) -> list[str]:
    """The end of a log, without what an engine writes before each line, and without empty lines."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - num_bytes))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = (_PREFIX.sub("", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def telling_lines(log: Path) -> str:
    """The last few different lines that say why, else the last line; on one line."""
    lines = last_lines(log)
    reasons = [line for line in lines if _SAYS_WHY.search(line) and not _CONSEQUENCES.search(line)]
    chosen = list(dict.fromkeys(reasons))[-MOST_LINES:] or lines[-1:]
    return " | ".join(line[:MOST_CHARACTERS] for line in chosen) or "nothing was logged"
