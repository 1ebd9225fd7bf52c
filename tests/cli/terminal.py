"""What is wrong with text on a terminal of 80 columns, where tables must be whole."""

from __future__ import annotations

import re

NARROW = {"FORCE_COLOR": "1", "TERM": "dumb", "COLUMNS": "80"}
"""Environment of a program that is to take its output for such a terminal."""

_COLUMNS = re.compile(r"\S {2,}\S")
"""Within a line of a table; sentences and commands, which a terminal wraps, have single spaces."""


def faults(text: str) -> list[str]:
    """Lines of tables that are too long, and whatever was cut off, with `…`."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return [line for line in plain.splitlines() if "…" in line or (len(line) > 80 and _COLUMNS.search(line))]
