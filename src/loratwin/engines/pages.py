"""How pages of servers are read."""

from __future__ import annotations

import re

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def whole(value: object) -> int | None:
    """A whole number above 0, given as number or text; None for anything else ("None", -1, 12.5)."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return int(number) if number > 0 and number == int(number) else None


def labels(page: str, series: str) -> dict[str, str]:
    """Labels of a series of `/metrics`, of several lines that with the highest value; empty: it is not there."""
    lines = [line for line in page.splitlines() if line.startswith(f"{series}{{")]
    return dict(_LABEL.findall(max(lines, key=_value))) if lines else {}


def _value(line: str) -> float:
    try:
        return float(line.rpartition("}")[2].split()[0])
    except (ValueError, IndexError):
        return float("-inf")
