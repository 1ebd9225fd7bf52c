"""Samples appended to a file as they come, so that a process killed in the middle leaves what it had sampled.

Lines of JSON. The first names the source; each other is one sample: its time, the series seen for the first time
(numbered in that order), the values that changed, the series that are gone. A failed sample says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from loratwin.errors import DataError, InputError
from loratwin.records.series import Samples
from loratwin.telemetry.table import Kind, SampleTable, SeriesKey

_MARK, _FORMAT = "loratwin_samples", 1


class Journal:
    """The file while it is written; each line reaches the system at once.

    Raises
    ------
    InputError
        The file cannot be made or written.
    """

    def __init__(self, path: Path, source: str) -> None:
        self._numbers: dict[SeriesKey, int] = {}
        self._last: dict[SeriesKey, float] = {}
        try:
            self._file: IO[str] | None = open(path, "w", encoding="utf-8")  # noqa: SIM115  (closed by close)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from None
        if (failure := self._write({_MARK: _FORMAT, "source": source})) is not None:
            raise InputError(f"{path}: {failure}")

    def append(self, time_s: float, values: Mapping[SeriesKey, float], failure: str | None) -> str | None:
        """Write one sample; if that fails, the reason, and nothing more is written."""
        if failure is not None:
            return self._write({"t": time_s, "failed": failure})
        new = [key for key in values if key not in self._numbers]
        for key in new:
            self._numbers[key] = len(self._numbers)
        changed = [(self._numbers[key], value) for key, value in values.items() if self._last.get(key) != value]
        gone = [self._numbers[key] for key in self._last if key not in values]
        self._last = dict(values)
        line: dict[str, Any] = {"t": time_s, "v": changed}
        line |= {"new": [[key.name, key.labels, int(key.kind)] for key in new]} if new else {}
        return self._write(line | ({"gone": gone} if gone else {}))

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            with suppress(OSError):  # what a full disk did not take
                self._file.close()
            self._file = None

    def _write(self, line: dict[str, Any]) -> str | None:
        if self._file is None:
            return None
        try:
            self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
            self._file.flush()
        except OSError as error:  # a full disk: the samples stay in memory
            self.close()
            return f"the journal of samples ends: {error.strerror or error}"
        return None


def read_journal(
    path: Path, zero_s: float = 0.0, from_s: float = float("-inf"), to_s: float = float("inf")
) -> Samples | None:
    """What a `Scrape` or `GpuSampler` with this journal would have given; None: it had not begun.

    Parameters
    ----------
    zero_s, from_s, to_s
        On the clock of the samples, `time.monotonic` of the machine that took them.

    Raises
    ------
    DataError
        The file is missing, or damaged before its last line; a last line that is not complete is dropped.
    """
    try:
        whole, _, _ = Path(path).read_bytes().rpartition(b"\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    if not whole:
        return None
    try:
        head, *lines = map(json.loads, whole.split(b"\n"))
        if head[_MARK] != _FORMAT:
            raise DataError(f"{path}: format {head[_MARK]}; this loratwin reads {_FORMAT}")
        table = _replay(SampleTable(head["source"]), lines)
    except (ValueError, KeyError, IndexError, TypeError):
        raise DataError(f"{path}: not a journal of samples, or damaged") from None
    return table.samples(zero_s, from_s, to_s)


def _replay(table: SampleTable, lines: list[dict[str, Any]]) -> SampleTable:
    keys: list[SeriesKey] = []
    values: dict[SeriesKey, float] = {}
    for line in lines:
        if "failed" in line:
            table.append(line["t"], {})
            continue
        for name, labels, kind in line.get("new", ()):
            keys.append(SeriesKey(name, tuple((label, value) for label, value in labels), Kind(kind)))
        for number in line.get("gone", ()):
            del values[keys[number]]
        values.update((keys[number], value) for number, value in line["v"])
        table.append(line["t"], values)
    return table
