"""Measured tables as rows: read, checked, one clear line when something is missing."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path

from loratwin.errors import DataError, InputError

Row = dict[str, str]


def read_table(path: Path, required: Iterable[str]) -> list[Row]:
    """Rows of a CSV file with a header.

    Raises
    ------
    InputError
        The file cannot be read.
    DataError
        It is empty, or lacks a column of `required`.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    if not rows:
        raise DataError(f"{path}: no rows")
    missing = [name for name in required if name not in rows[0]]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; required: {', '.join(required)}")
    return rows


def number(row: Row, column: str) -> float:
    """A cell as a number; NaN when it is absent or empty.

    Raises
    ------
    DataError
        The cell holds something else.
    """
    text = (row.get(column) or "").strip()
    if not text:
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise DataError(f"column {column!r}: {text!r} is not a number") from None


def numbers(row: Row, column: str) -> list[float]:
    """A cell of numbers separated by spaces; empty when it is absent or NaN."""
    values = [number({column: part}, column) for part in (row.get(column) or "").split()]
    return [value for value in values if not math.isnan(value)]
