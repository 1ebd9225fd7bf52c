"""Cells to numbers, and which cells are none: times in any unit, lengths in whole tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loratwin.traces.trace import F8, MAX_TOKENS

UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""How many make a second."""

TIMESTAMP = "timestamp"
"""Times of day, as 2023-11-16 18:15:46.68, with or without an offset from UTC."""

_OF_ACCESS_LOG = re.compile(r"\[?(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d:\d\d:\d\d)(?: ([+-])(\d\d)(\d\d))?\]?")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)\d*\s*(?:Z|UTC|([+-])(\d\d):?(\d\d)?)?"
)  # more than nine decimals are cut
_EPOCH_S = 1e8
_EPOCHS = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"))
"""Seconds since 1970 in smaller units are recognised by their size: 1e11 s is the year 5138."""

_NOTHING = ("", "null", "none", "-", "n/a", "na", "nan", "<na>", "nat", "\\n")
Mask = NDArray[np.bool_]


class NumberColumn(NamedTuple):
    """A column as numbers. All of shape (num_rows,)."""

    value: F8
    """NaN where it is missing or bad."""
    missing: Mask
    """The cell is empty, or holds what stands for nothing (null, NaN)."""
    bad: Mask
    """There is something in it that is no number."""


def numbers(cells: Any) -> NumberColumn:
    """Cells as numbers: what numpy has read already, numbers of JSON, or text."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "iuf":
        value = cells.astype(np.float64)
        return NumberColumn(value, np.isnan(value), np.isinf(value))
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":  # tolist() would make nanoseconds of them
        return NumberColumn(np.full(len(cells), np.nan), np.isnat(cells), ~np.isnat(cells))
    items = cells.tolist() if isinstance(cells, np.ndarray) else cells
    try:
        value = np.array(items, dtype=np.float64)  # None becomes NaN
        if value.ndim == 1 and np.isfinite(value).all() and not any(isinstance(item, bool) for item in items):
            return NumberColumn(value, np.zeros(len(value), bool), np.zeros(len(value), bool))
    except (ValueError, TypeError, OverflowError):
        pass
    missing = np.array([is_nothing(item) for item in items], dtype=bool)
    value = np.array([_number(item) for item in items], dtype=np.float64)
    return NumberColumn(value, missing, ~np.isfinite(value) & ~missing)


def is_nothing(item: Any) -> bool:
    """Whether a cell is empty, or holds what stands for nothing."""
    if isinstance(item, float):
        return item != item
    return item is None or (isinstance(item, str) and item.strip().lower() in _NOTHING)


def _number(item: Any) -> float:
    if isinstance(item, bool):
        return float("nan")
    try:
        return float(item)
    except (ValueError, TypeError, OverflowError):
        return float("nan")


class Times(NamedTuple):
    """A column of times, all of shape (num_rows,); seconds, or nanoseconds since 1970 where they are times of day."""

    seconds: F8
    since_1970: NDArray[np.int64] | None
    bad: Mask


_WITH_UNIT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(ns|us|ms|s)")


def unit_of(cell: Any) -> str:
    """The unit that a cell looks like: a time of day, seconds, or smaller units since 1970; or that it says itself."""
    if isinstance(cell, str) and _WITH_UNIT.fullmatch(cell.strip()):
        return "s"
    if isinstance(cell, (np.datetime64, datetime)) or (isinstance(cell, str) and _nanoseconds(cell) is not None):
        return TIMESTAMP
    size = abs(_number(cell))
    if not np.isfinite(size):
        return TIMESTAMP
    return next((unit for least, unit in _EPOCHS if size >= least), "s")


def times(cells: Any, unit: str) -> Times:
    """Cells as times."""
    if unit == TIMESTAMP:
        return _times_of_day(cells)
    items = cells.tolist() if isinstance(cells, np.ndarray) and cells.dtype.kind == "O" else cells
    if isinstance(items, list) and any(isinstance(item, str) and item.rstrip()[-1:] == "s" for item in items):
        items = [_without_unit(item, unit) for item in items]
    found = numbers(items)
    return Times(found.value / UNITS[unit], None, found.bad | found.missing)


def _without_unit(item: Any, unit: str) -> Any:
    """A time that says its unit, as `12.5s` or `800 ms`, as a number in another; what says none as it is."""
    match = _WITH_UNIT.fullmatch(item.strip()) if isinstance(item, str) else None
    return item if match is None else float(match[1]) / UNITS[match[2]] * UNITS[unit]


def is_since_1970(first_s: float) -> bool:
    """Whether seconds are counted from 1970: a trace of three years is none."""
    return first_s > _EPOCH_S


def iso(nanoseconds: int) -> str:
    """A time of day in UTC."""
    return str(np.datetime64(nanoseconds, "ns")).rstrip("0").rstrip(".").replace("T", " ")


def _times_of_day(cells: Any) -> Times:
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        bad = np.isnat(cells)
        return Times(np.zeros(len(cells)), np.where(bad, 0, cells.astype("M8[ns]").astype(np.int64)), bad)
    items = cells.tolist() if isinstance(cells, np.ndarray) else cells
    fast = _in_utc(items)
    if fast is not None:
        return Times(np.zeros(len(items)), fast, np.zeros(len(items), bool))
    found = [_nanoseconds(item) for item in items]
    value = np.array([0 if time is None else time for time in found], dtype=np.int64)
    return Times(np.zeros(len(items)), value, np.array([time is None for time in found], dtype=bool))


def _in_utc(items: Sequence[Any]) -> NDArray[np.int64] | None:
    """All at once, where all are of the first one's form and in UTC; None where one is not."""
    first = items[0] if items else None
    tail = next((end for end in ("+00:00", "Z") if isinstance(first, str) and first.endswith(end)), None)
    if tail is None or not all(isinstance(item, str) and item.endswith(tail) for item in items):
        return None
    plain = [item.removesuffix(tail) for item in items]
    if not all(19 <= len(text) <= 29 and text[4] == "-" and text[-1].isdigit() for text in plain):
        return None
    try:
        return np.array(plain, "M8[ns]").astype(np.int64)
    except ValueError:
        return None


def _nanoseconds(item: Any) -> int | None:
    """Nanoseconds since 1970 of a time of day; None: it is none. Without an offset it is taken for UTC."""
    if isinstance(item, datetime):
        item = item.isoformat()
    match = _TIME.fullmatch(_plain_time(item.strip())) if isinstance(item, str) else None
    if match is None:
        return None
    text, sign, hours, minutes = match.groups()
    try:
        time = np.datetime64(text.replace(",", ".").replace(" ", "T"), "ns").astype(np.int64)
    except ValueError:
        return None
    offset = (int(hours) * 3600 + int(minutes or 0) * 60) * (-1 if sign == "-" else 1) if sign else 0
    return int(time) - offset * 1_000_000_000


def _plain_time(text: str) -> str:
    """A time as web servers write it, `16/Nov/2023:18:15:46 +0000`, as others do."""
    match = _OF_ACCESS_LOG.fullmatch(text)
    if match is None or match[2] not in _MONTHS:
        return text
    offset = f"{match[5]}{match[6]}:{match[7]}" if match[5] else ""
    return f"{match[3]}-{_MONTHS.index(match[2]) + 1:02d}-{match[1]} {match[4]}{offset}"


def texts(cells: Any) -> list[str]:
    """Cells as text, "" where there is nothing."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
        return ["" if np.isnat(cell) else iso(int(cell.astype(np.int64))) for cell in cells]
    items: list[Any] = cells.tolist() if isinstance(cells, np.ndarray) else list(cells)
    if set(map(type, items)) == {str}:
        return items
    return [item if isinstance(item, str) else "" if item is None else str(item) for item in items]


def whole(value: F8) -> F8:
    """Lengths as near to what they were as a request can have: whole tokens, at least one."""
    return np.clip(np.rint(value), 1, MAX_TOKENS)


_FINE = (
    "success", "ok", "succeeded", "successful", "completed", "complete", "finished", "done", "true", "stop", "length",
    "eos", "end_turn", "max_tokens", "stop_sequence", "tool_calls", "tool_use", "function_call",
)  # fmt: skip
_HTTP = re.compile(r"(?:http\S*\s+)?(\d{3})(?:\.0+)?(?:\s+[a-z' -]+)?")


def failed(cells: Any) -> Mask:
    """Which requests failed by their status: HTTP's from 400 on (also as `200 OK`), or a word that is none of success.

    Success is also why an answer ended: `stop`, `length` and their like.
    """
    words = [text.strip().lower() for text in texts(cells)]
    return np.array([_is_failure(word) for word in words], dtype=bool)


def _is_failure(word: str) -> bool:
    http = _HTTP.fullmatch(word)
    number = _number(http[1] if http else word)
    if np.isfinite(number):
        return number >= 400
    return word not in _FINE and not is_nothing(word)
