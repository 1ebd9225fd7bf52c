"""What the client writes while it measures: columns of fixed size in memory-mapped files, in a folder.

The load client writes times into mapped memory as they happen, and the process that shows progress reads the same
pages. The kernel keeps the pages when a process is killed, so nothing that was measured is lost with it; memory stays
flat; and since the files are allocated beforehand, a disk that is full says so before the run instead of in it.
"""

from __future__ import annotations

import json
import mmap
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loratwin.errors import DataError, InputError
from loratwin.records import write_atomically
from loratwin.records.columns import AnyArray

COLUMNS: dict[str, str] = {
    "scheduled_s": "d",  # the client means to send; NaN: no such request (yet)
    "sent_s": "d",
    "first_token_s": "d",
    "last_token_s": "d",
    "finish_s": "d",
    "adapter": "i",
    "prompt_tokens": "i",
    "output_tokens": "i",  # asked for
    "received_tokens": "i",
    "counted_prompt": "i",  # by the server; -1: it did not say
    "counted_output": "i",
    "counted_cached": "i",  # tokens of the prompt that its prefix cache had
    "failure": "i",  # row of the list of failures; -1: none
    "replica": "i",
}
"""One value for each request; times are absolute, on the monotonic clock of the machine. d: 8 bytes, i: 4, q: 8."""

COUNTERS = ("rows", "sent", "finished", "failed", "tokens", "in_flight", "connections", "sent_again")
"""Running totals, for whoever watches."""

LEAST_GAP_S = 1e-5
_OCTAVES = 27  # from 10 us to 1,300 s
_EMPTY: dict[str, float] = {"counted_prompt": -1, "counted_output": -1, "counted_cached": -1, "failure": -1}
_DTYPES = {"d": np.float64, "i": np.int32, "q": np.int64}


@dataclass(frozen=True)
class Shape:
    """Sizes that a journal is made with."""

    num_rows: int
    num_adapters: int
    num_parts: int  # of the window, for tokens over time
    per_octave: int = 64

    @property
    def num_bins(self) -> int:
        """Bins of the histogram of gaps, see `records.GapHistogram`."""
        return _OCTAVES * self.per_octave + 2


def bins_per_octave(num_adapters: int) -> int:
    """64, or fewer where a histogram for each adapter would take more than some 30 MB."""
    return 64 if num_adapters <= 2000 else 16


class RequestJournal:
    """The columns as memoryviews (fast to write one value), and as arrays (to read all).

    Attributes
    ----------
    columns
        By name, as `COLUMNS`; each has at least `shape.num_rows` values.
    gaps
        Counts of shape (num_adapters + 1) * num_bins, flat.
    tokens
        Output tokens in each part of the window.
    counters
        As `COUNTERS`.
    """

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.folder, self.shape = folder, shape
        self._maps: dict[str, mmap.mmap] = {}
        self.columns = {name: self._open(name, code, shape.num_rows) for name, code in COLUMNS.items()}
        self.gaps = self._open("gaps", "q", (shape.num_adapters + 1) * shape.num_bins)
        self.tokens = self._open("tokens", "q", shape.num_parts)
        self.counters = self._open("counters", "q", len(COUNTERS))

    @classmethod
    def create(cls, folder: Path, shape: Shape) -> RequestJournal:
        """Allocate all files.

        Raises
        ------
        InputError
            The disk is full, or the folder cannot be written.
        """
        for name, code, num in _layout(shape):
            _allocate(folder / f"{name}.bin", code, num)
        write_atomically(folder / "shape.json", json.dumps(asdict(shape)))
        journal = cls(folder, shape)
        journal._clear(0)
        return journal

    @classmethod
    def open(cls, folder: Path) -> RequestJournal:
        """A journal that was created before, perhaps by a process that is no more.

        Raises
        ------
        DataError
            There is none, or it is damaged.
        """
        try:
            shape = Shape(**json.loads((folder / "shape.json").read_text()))
            return cls(folder, shape)
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{folder}: no journal of a benchmark, or damaged: {error}") from None

    def grow(self) -> None:
        """Twice as many rows, for a run whose number of requests nobody knows beforehand.

        Raises
        ------
        InputError
            The disk is full.
        """
        old = self.shape
        self.shape = Shape(old.num_rows * 2, old.num_adapters, old.num_parts, old.per_octave)
        for name, code in COLUMNS.items():
            self.columns[name].release()
            self._maps.pop(name).close()
            _allocate(self.folder / f"{name}.bin", code, self.shape.num_rows)
            self.columns[name] = self._open(name, code, self.shape.num_rows)
        self._clear(old.num_rows)
        write_atomically(self.folder / "shape.json", json.dumps(asdict(self.shape)))

    def array(self, name: str) -> AnyArray:
        """A copy of the used rows of a column."""
        values: AnyArray = np.frombuffer(self.columns[name], dtype=_DTYPES[COLUMNS[name]])
        used: AnyArray = values[: self.counters[0]].copy()
        return used

    def fill(self, name: str, values: AnyArray) -> None:
        """Write the first rows of a column."""
        np.frombuffer(self.columns[name], dtype=_DTYPES[COLUMNS[name]])[: len(values)] = values

    def count(self, name: str) -> int:
        """A running total."""
        return int(self.counters[COUNTERS.index(name)])

    def close(self) -> None:
        """Give the files back; the columns can no more be used."""
        for values in (*self.columns.values(), self.gaps, self.tokens, self.counters):
            values.release()
        for mapped in self._maps.values():
            mapped.close()

    def _clear(self, from_row: int) -> None:
        for name, code in COLUMNS.items():
            empty = _EMPTY.get(name, float("nan") if code == "d" else 0)
            np.frombuffer(self.columns[name], dtype=_DTYPES[code])[from_row:] = empty

    def _open(self, name: str, code: str, num: int) -> memoryview[Any]:
        path = self.folder / f"{name}.bin"
        with path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size < num * _size(code):
                raise ValueError(f"{path.name} is cut off")
            self._maps[name] = mmap.mmap(file.fileno(), num * _size(code))
        values: memoryview[Any] = memoryview(self._maps[name]).cast(code)  # type: ignore[call-overload]
        return values


def _layout(shape: Shape) -> list[tuple[str, str, int]]:
    columns = [(name, code, shape.num_rows) for name, code in COLUMNS.items()]
    gaps = ("gaps", "q", (shape.num_adapters + 1) * shape.num_bins)
    return [*columns, gaps, ("tokens", "q", shape.num_parts), ("counters", "q", len(COUNTERS))]


def _size(code: str) -> int:
    return 4 if code == "i" else 8


def _allocate(path: Path, code: str, num: int) -> None:
    """Take the blocks now: writing to a mapped file on a full disk would kill the process."""
    try:
        with path.open("a+b") as file:
            os.posix_fallocate(file.fileno(), 0, max(num, 1) * _size(code))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
