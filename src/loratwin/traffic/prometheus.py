"""A Prometheus server, over its HTTP API or in saved answers: the series that tell traffic, at the ends of steps."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from loratwin.errors import DataError, InputError
from loratwin.http import Connection, NoAnswerError
from loratwin.traces.rows import UNREADABLE, open_table
from loratwin.traffic.native import classic_series, joined
from loratwin.traffic.observed import Observed
from loratwin.traffic.series import Counted, names_needed, observed_of

MOST_STEPS = 10_000
"""Prometheus gives 11,000 points of a series at most."""


class QueryRange(NamedTuple):
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

    @property
    def num_ends(self) -> int:
        """Ends of steps, the first one's begin among them."""
        return round(self.length_s / self.step_s) + 1

    def place(self, at_s: float) -> int:
        """Which end of a step a time is; below 0 or beyond `num_ends`: none."""
        return round((at_s - self.start_s) / self.step_s)

    def counted(self, one: Any) -> Counted:
        """A series of an answer, by its places in this range."""
        labels = dict(one["metric"])
        values = np.full(self.num_ends, np.nan)
        for at, value in one.get("values", ()):
            place = self.place(float(at))
            if 0 <= place < len(values):
                values[place] = float(value)
        return Counted.of(labels.pop("__name__", ""), labels, values)

    def series(self, results: Sequence[Any], asked: str) -> tuple[list[Counted], list[Counted]]:
        """Those of an answer: plain ones, and those of native histograms."""
        plain = [self.counted(one) for one in results if one.get("values")]
        return plain, classic_series(results, self.place, self.num_ends, asked)


def range_of(length_s: float, end_s: float, step_s: float | None) -> QueryRange:
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
    return QueryRange(end_s, max(1, round(length_s / step_s)) * step_s, step_s)


def from_server(url: str, asked: QueryRange, matchers: str, label: str, headers: Mapping[str, str] | None) -> Observed:
    """Ask a Prometheus.

    Raises
    ------
    DataError
        It does not answer, refuses the question, or has no such series.
    """
    series: list[Counted] = []
    native: list[Counted] = []
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
            said = f"{connection.url}: query {query}"
            plain, histograms = asked.series(_results(answer.json(), said, answer.status), said)
            series += plain  # at once: as JSON they take a hundred times as much
            native += histograms
        source = f"Prometheus at {connection.url}"
    return observed_of(joined(series, native), asked.step_s, asked.begin, source, label)


def from_answers(paths: Sequence[Path], label: str) -> Observed:
    """Saved answers of `/api/v1/query_range`, one or several, or a list of them in a file.

    Raises
    ------
    DataError
        They hold no range of such series.
    """
    results: list[Any] = []
    for path in paths:
        data = _read(path)
        alone = not isinstance(data, list) or _is_series(data)
        for answer in [data] if alone else data:
            results += _results(answer, str(path), 200)
    source = ", ".join(path.name for path in paths)
    stamps = sorted({float(at) for one in results for key in ("values", "histograms") for at, _ in one.get(key) or ()})
    if len(stamps) < 2:
        raise DataError(f"{source}: holds fewer than two times; save an answer of /api/v1/query_range")
    step_s = float(np.median(np.diff(stamps)))
    steps = round((stamps[-1] - stamps[0]) / step_s)
    held = QueryRange(stamps[0] + steps * step_s, steps * step_s, step_s)
    return observed_of(joined(*held.series(results, source)), step_s, held.begin, source, label)


def _read(path: Path) -> Any:
    try:
        with open_table(path) as opened:
            return json.loads(opened.read())
    except (*UNREADABLE, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from None


def is_answer(text: str) -> bool:
    """Whether this is the beginning of a saved answer: as the API gives it, or what it holds alone."""
    begin = text.lstrip("[ \n\r\t")[:400]
    if not begin.startswith("{"):
        return False
    whole = '"status"' in begin and '"data"' in text[:4000] and '"result' in text[:4000]
    return whole or '"resultType"' in begin or re.match(r'\{\s*"metric"\s*:\s*\{', begin) is not None


def _is_series(data: Any) -> bool:
    """Whether these are series, as `promtool query range` and clients in Python give them."""
    return isinstance(data, list) and bool(data) and isinstance(data[0], dict) and "metric" in data[0]


def _results(answer: Any, asked: str, status: int) -> list[Any]:
    if _is_series(answer):
        answer = {"resultType": "matrix", "result": answer}
    if isinstance(answer, dict) and "resultType" in answer:
        answer = {"status": "success", "data": answer}
    if not isinstance(answer, dict) or "status" not in answer:
        raise DataError(f"{asked}: HTTP {status}, and the answer is none of Prometheus'")
    if answer["status"] != "success":
        raise DataError(f"{asked}: {answer.get('error', 'refused')}")
    data = answer.get("data")
    kind = data.get("resultType") if isinstance(data, dict) else None
    if not isinstance(data, dict) or kind != "matrix":
        raise DataError(f"{asked}: holds a {kind or 'nothing'}, not a range of time (/api/v1/query_range)")
    results = data.get("result")
    if not isinstance(results, list) or not all(isinstance(one, dict) and "metric" in one for one in results):
        raise DataError(f"{asked}: holds no series of Prometheus")
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
