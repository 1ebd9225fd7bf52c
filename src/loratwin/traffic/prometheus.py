"""A Prometheus server, over its HTTP API or in saved answers: the series that tell traffic, at the ends of steps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from loratwin.errors import DataError, InputError
from loratwin.http import Connection, NoAnswerError
from loratwin.traffic.observed import Observed
from loratwin.traffic.series import Counted, names_needed, observed_of

MOST_STEPS = 10_000
"""Prometheus gives 11,000 points of a series at most."""


class Range(NamedTuple):
    """Which part of the past."""

    end_s: float
    """Seconds since 1970."""
    length_s: float
    step_s: float

    @property
    def start_s(self) -> float:
        return self.end_s - self.length_s

    @property
    def begin(self) -> str:
        """In words."""
        return datetime.fromtimestamp(self.start_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%S (UTC)")

    def counted(self, one: Any) -> Counted:
        """A series of an answer, by its places in this range."""
        labels = dict(one["metric"])
        values = np.full(round(self.length_s / self.step_s) + 1, np.nan)
        for at, value in one.get("values", ()):
            place = round((float(at) - self.start_s) / self.step_s)
            if 0 <= place < len(values):
                values[place] = float(value)
        return Counted.of(labels.pop("__name__", ""), labels, values)


def range_of(length_s: float, end_s: float, step_s: float | None) -> Range:
    """A range in whole steps: of a minute, longer where the range is.

    Raises
    ------
    InputError
        It is no length of time, or has too many steps.
    """
    if not (length_s > 0 and math.isfinite(length_s)):
        raise InputError(f"--since {length_s:g} s: expected a time before now, as 24h")
    step_s = step_s if step_s is not None else max(60.0, math.ceil(length_s / MOST_STEPS / 60) * 60.0)
    if step_s <= 0 or length_s / step_s > MOST_STEPS:
        raise InputError(f"--step {step_s:g} s: expected 1 to {MOST_STEPS:,} steps in {length_s:g} s")
    return Range(end_s, max(1, round(length_s / step_s)) * step_s, step_s)


def from_server(url: str, asked: Range, matchers: str, label: str, headers: Mapping[str, str] | None) -> Observed:
    """Ask a Prometheus.

    Raises
    ------
    DataError
        It does not answer, refuses the question, or has no such series.
    """
    series: list[Counted] = []
    with Connection(url, headers, timeout_s=60.0) as connection:
        for name in names_needed():
            query = f"{name}{{{matchers}}}" if matchers else name
            path = (
                f"/api/v1/query_range?query={quote(query)}&start={asked.start_s:.3f}&end={asked.end_s:.3f}"
                f"&step={asked.step_s:g}"
            )
            try:
                answer = connection.request(path)
            except NoAnswerError as error:
                raise DataError(f"{connection.url}: no Prometheus answers ({error.reason})") from None
            results = _results(answer.json(), f"{connection.url}: query {query}", answer.status)
            series += map(asked.counted, results)  # at once: as JSON they take a hundred times as much
        source = f"Prometheus at {connection.url}"
    return observed_of(series, asked.step_s, asked.begin, source, label)


def from_answers(paths: Sequence[Path], label: str) -> Observed:
    """Saved answers of `/api/v1/query_range`, one or several, or a list of them in a file.

    Raises
    ------
    DataError
        They hold no range of such series.
    """
    series: list[Any] = []
    for path in paths:
        try:
            data = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as JSON ({error})") from None
        for answer in data if isinstance(data, list) else [data]:
            series += _results(answer, str(path), 200)
    source = ", ".join(path.name for path in paths)
    stamps = sorted({float(at) for one in series for at, _ in one.get("values", ())})
    if len(stamps) < 2:
        raise DataError(f"{source}: holds fewer than two times; save an answer of /api/v1/query_range")
    step_s = float(np.median(np.diff(stamps)))
    steps = round((stamps[-1] - stamps[0]) / step_s)
    held = Range(stamps[0] + steps * step_s, steps * step_s, step_s)
    return observed_of([*map(held.counted, series)], step_s, held.begin, source, label)


def is_answer(text: str) -> bool:
    """Whether this is the beginning of a saved answer."""
    begin = text.lstrip("[ \n\r\t")[:400]
    return begin.startswith("{") and '"status"' in begin and '"data"' in text[:4000] and '"result' in text[:4000]


def _results(answer: Any, asked: str, status: int) -> list[Any]:
    if not isinstance(answer, dict) or "status" not in answer:
        raise DataError(f"{asked}: HTTP {status}, and the answer is none of Prometheus'")
    if answer["status"] != "success":
        raise DataError(f"{asked}: {answer.get('error', 'refused')}")
    data = answer.get("data")
    kind = data.get("resultType") if isinstance(data, dict) else None
    if not isinstance(data, dict) or kind != "matrix":
        raise DataError(f"{asked}: holds a {kind or 'nothing'}, not a range of time (/api/v1/query_range)")
    results: list[Any] = data["result"]
    return results


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def past(since: str, until: str | None) -> tuple[float, float | None]:
    """Seconds of `24h`, and seconds since 1970 of the end; None: now.

    Raises
    ------
    InputError
        It is no length of time, or no time.
    """
    number, unit = since[:-1], since[-1:]
    try:
        length_s = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        raise InputError(f"--since {since!r}: expected a number and s, m, h or d, as 24h") from None
    if until is None:
        return length_s, None
    try:
        end = datetime.fromisoformat(until.replace("Z", "+00:00"))
    except ValueError:
        raise InputError(f"--until {until!r}: expected a time, as 2026-11-27T12:00 (UTC)") from None
    return length_s, (end if end.tzinfo else end.replace(tzinfo=timezone.utc)).timestamp()
