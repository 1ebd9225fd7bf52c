"""Cells of tables that others published."""

from __future__ import annotations

import math
from collections.abc import Mapping

from loratwin.errors import DataError


def text(row: Mapping[str, str], name: str) -> str:
    """What a cell says.

    Raises
    ------
    DataError
        Nothing.
    """
    if not row.get(name):
        raise DataError(f"{name} is missing")
    return row[name]


def number(row: Mapping[str, str], name: str) -> float | None:
    """None where a cell is empty, infinite, or in words ("default")."""
    try:
        value = float(row.get(name) or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def required(row: Mapping[str, str], name: str, least: float) -> float:
    """A number that must be there.

    Raises
    ------
    DataError
        It is not, or is below the least.
    """
    value = number(row, name)
    if value is None or value < least:
        raise DataError(f"{name} = {row.get(name)!r}, but it must be a number of at least {least:g}")
    return value
