"""How much of this machine others use, while nothing of ours runs on it."""

from __future__ import annotations

import time
from pathlib import Path

_STAT = Path("/proc/stat")
_IDLE = slice(3, 5)
"""Columns `idle` and `iowait` among the times of proc_stat(5)."""

_ALL = slice(0, 8)
"""Up to `steal`; a guest's time is in `user` and `nice` already."""


def busy_share(seconds: float = 1.0) -> float:
    """Which part of all cores is busy now; it takes so long to see.

    The load average would do for a machine that has rested, but counts our own servers for minutes after their end.

    Returns
    -------
    From 0 to 1; NaN where the system does not tell (it has no /proc/stat).
    """
    if not _STAT.exists():
        return float("nan")
    before = _STAT.read_text()
    time.sleep(seconds)
    return share_between(before, _STAT.read_text())


def share_between(before: str, after: str) -> float:
    """The busy part between two readings of /proc/stat; NaN where no time has passed.

    Source: proc_stat(5), first line.
    """
    spent = [now - then for then, now in zip(_times(before), _times(after), strict=True)]
    total = sum(spent[_ALL])
    return 1 - sum(spent[_IDLE]) / total if total > 0 else float("nan")


def _times(stat: str) -> list[int]:
    return [int(field) for field in stat.partition("\n")[0].split()[1:]]
