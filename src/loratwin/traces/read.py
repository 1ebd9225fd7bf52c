"""Read a trace: recognise its form, turn its rows into arrays piece by piece, and count what does not fit."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import InputError
from loratwin.refusals import did_you_mean
from loratwin.traces import cells as of_cells
from loratwin.traces.formats import (
    FORMATS,
    ROLES,
    Format,
    columns_of,
    format_named,
    has_beside,
    plain,
    recognised,
    unit_in_name,
)
from loratwin.traces.rows import UNREADABLE, OpenedFile, Piece, open_table, read_table, value_at
from loratwin.traces.servegen import is_clients, read_clients
from loratwin.traces.trace import F8, MAX_TOKENS, NO_ADAPTER, SharedBlocks, Trace, TraceFacts

_Array = TypeVar("_Array", bound=NDArray[Any])
Unfit = Literal["refuse", "skip", "clip"]


class Reading(NamedTuple):
    """How a file is to be read, where that is not told by its form."""

    format: str | None = None
    """Name of the form; None: recognised by its columns."""
    columns: tuple[tuple[str, str], ...] = ()
    """Pairs of role (time, prompt, output, adapter, status, blocks) and column, or dotted path of JSON."""
    unit: str | None = None
    """Of the time: s, ms, us, ns or timestamp; None: that of the form, or told by the first row."""
    shift: bool | None = None
    """Whether the first request arrives at 0 s; None: where times are of day or since 1970."""
    unfit: Unfit | None = None
    """What becomes of rows that are no request: refuse the file, skip them, or clip their lengths; None: a request
    without tokens is skipped where the form has failed ones, all else is refused."""


DEFAULT = Reading()


def read_trace(path: str | Path, reading: Reading = DEFAULT) -> Trace:
    """Read a trace, once for each state of the file.

    Parameters
    ----------
    path
        CSV with any delimiter, JSON lines, JSON or parquet; also compressed by gzip, bzip2, xz, zstd or zip.
    reading
        Form, columns and units, where they are not recognised.

    Raises
    ------
    InputError
        The file cannot be read, is of no known form, lacks a column, or has a cell that makes no sense; says which.
    """
    path = Path(path)
    try:
        state = os.stat(path)
        return _read(path, reading, state.st_mtime_ns, state.st_size)
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def read_facts(path: str | Path, reading: Reading = DEFAULT, workload: str | None = None) -> TraceFacts:
    """What is in a file of requests, or of clients and their rates.

    Parameters
    ----------
    workload
        Of clients: which of several workloads in the file.

    Raises
    ------
    InputError
        As `read_trace` and `read_clients`.
    """
    if reading == DEFAULT and is_clients(Path(path)):
        return read_clients(Path(path), workload).facts(Path(path))
    return read_trace(path, reading).facts


@lru_cache(maxsize=4)
def _read(path: Path, reading: Reading, mtime_ns: int, size: int) -> Trace:
    with open_table(path) as opened:
        table = read_table(opened, path)
        plan = _plan(path, table, reading)
        rows = _Rows(path, plan)
        for piece in table.pieces(list(plan.columns.values()), [plan.columns.get("adapter", "")]):
            rows.add(piece)
    return rows.trace(table.notes + _images(table))


class _Plan(NamedTuple):
    """How the rows of one file are read."""

    form: Format
    columns: dict[str, str]
    unit: str
    shift: bool | None
    unfit: Unfit | None
    kind: str


def _plan(path: Path, table: OpenedFile, reading: Reading) -> _Plan:
    given = dict(reading.columns)
    form = format_named(reading.format) if reading.format is not None else recognised(table.header)
    if form is None and not given and {"client", "rate"} <= set(table.header):
        raise InputError(f"{path}: holds rates of clients, not requests: arrivals: {{kind: clients, path: ...}}")
    if form is None and "time" not in given and not {"prompt", "output"} & given.keys():
        raise InputError(f"{path}: {_unknown(table)}")
    form = form or _MAPPED
    columns = columns_of(form, table.header) | {role: _column(path, table, name) for role, name in given.items()}
    for role in form.needs:
        if role not in columns:
            raise InputError(f"{path}: {_missing(form, role, table)}")
    if form.output_optional and _first(table, columns.get("output", "")) is None:
        columns.pop("output", None)
    unit = reading.unit or (None if "time" in given else form.unit) or _unit(table, columns.get("time"))
    return _Plan(form, {role: columns[role] for role in ROLES if role in columns}, unit, reading.shift, reading.unfit,
                 table.kind)  # fmt: skip


def _unit(table: OpenedFile, column: str | None) -> str:
    """The unit of a column of times by what is in it; where numbers are too small to tell, by its name."""
    if column is None:
        return "s"
    unit = of_cells.unit_of(_first(table, column))
    return unit_in_name(column) or unit if unit == "s" else unit


_MAPPED = Format("mapped", "mapped columns", (), (), (), needs=(), strict=True)


def _listed(cell: Any) -> Any:
    """A list as it is, or as CSV has it, in the text of JSON; empty where there is nothing; None: it is none."""
    if isinstance(cell, str) and cell.strip():
        try:
            cell = json.loads(cell)
        except ValueError:
            return None
        return cell if isinstance(cell, list) else None
    return cell if isinstance(cell, (list, tuple, np.ndarray)) else []


def _first(table: OpenedFile, column: str) -> Any:
    """The first cell of a column with something in it; None: the first rows have none."""
    cells = (value_at(row, column) for row in table.head)
    return next((cell for cell in cells if not of_cells.is_nothing(cell)), None)


def _column(path: Path, table: OpenedFile, name: str) -> str:
    """A column that was asked for, as the file writes it."""
    if name in table.header:
        return name
    for column in table.header:
        if plain(column) == plain(name):
            return column
    raise InputError(f"{path}: has no column {name!r}{did_you_mean(name, table.header)}")


def _missing(form: Format, role: str, table: OpenedFile) -> str:
    name = getattr(form, role)[0] if getattr(form, role) else role
    has = ", ".join(table.header)
    return f"column {name!r} is missing, which {form.title} have; this file has {has}"


def _unknown(table: OpenedFile) -> str:
    """Why a file is of no known form: the column that its nearest form lacks, or all that it has."""
    has = ", ".join(table.header)
    near: list[tuple[int, Format, str]] = []
    for form in (form for form in FORMATS if form.time and has_beside(form, table.header)):
        found = columns_of(form, table.header)
        lacking = [role for role in form.needs if role not in found]
        if len(lacking) == 1 and len(found) >= 2:
            near.append((len(found), form, lacking[0]))
    if near:
        _, form, role = max(near, key=lambda each: each[0])
        return _missing(form, role, table)
    return f"is of no form that is known; say which column is what (columns: {{time: ..., prompt: ...}}); it has {has}"


def _images(table: OpenedFile) -> tuple[str, ...]:
    has = any(plain(name) == "numimages" for name in table.header)
    return ("images (NumImages) are not counted, but for what of them is in the prompt tokens",) if has else ()


@dataclass
class _Problem:
    """Rows that do not fit for one reason."""

    count: int = 0
    first: str = ""


@dataclass
class _Rows:
    """The rows read so far, as arrays of each piece."""

    path: Path
    plan: _Plan
    parts: dict[str, list[Any]] = field(default_factory=dict)
    left_out: dict[str, _Problem] = field(default_factory=dict)
    clipped: Counter[str] = field(default_factory=Counter)
    names: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    last: float = -np.inf  # of times of day: whole nanoseconds

    def add(self, piece: Piece) -> None:
        """Turn a piece into arrays."""
        num = len(piece.lines)
        self.rows += num
        keep = np.ones(num, dtype=bool)
        arrays: dict[str, Any] = {}
        self._note_failures(piece, keep)
        for role in ("prompt", "output"):
            if role in self.plan.columns:
                arrays[role] = self._tokens(piece, role, keep)
        if "time" in self.plan.columns:  # lines of a log that are of no request need no time
            arrays["time"] = self._times(piece, keep)
        if "adapter" in self.plan.columns:
            arrays["adapter"] = self._adapters(piece)
        if "blocks" in self.plan.columns:
            self._blocks(piece, keep)
        for role, array in arrays.items():
            self.parts.setdefault(role, []).append(array if keep.all() else array[keep])

    def _times(self, piece: Piece, keep: NDArray[np.bool_]) -> NDArray[Any]:
        column = self.plan.columns["time"]
        found = of_cells.times(piece.cells[column], self.plan.unit)
        example = "like 2023-11-16 18:15:46.68 (UTC)" if self.plan.unit == of_cells.TIMESTAMP else ""
        said = f"is not a time {example}".strip() if example else "is not a number"
        self._unfit(piece, keep, found.bad, column, said, "without a time")
        values = found.seconds if found.since_1970 is None else found.since_1970
        if found.since_1970 is None and self.plan.shift is not True:
            negative = keep & (found.seconds < 0)
            self._unfit(piece, keep, negative, column, "must not be negative", "before 0 s", shown=False)
        if (~found.bad).any():
            self.last = max(self.last, values[~found.bad].max().item())
        return values

    def _tokens(self, piece: Piece, role: str, keep: NDArray[np.bool_]) -> NDArray[np.int32]:
        column = self.plan.columns[role]
        found = of_cells.numbers(piece.cells[column])
        value, good = found.value, ~found.bad & ~found.missing
        self.sums[role] = self.sums.get(role, 0.0) + float(np.where(good, value, 0.0).sum())
        must = f"must be a whole number from 1 to {MAX_TOKENS}"
        self._unfit(piece, keep, found.bad, column, "is not a number", f"{column} is no number")
        empty = found.missing | (value == 0)
        self._unfit(
            piece, keep, empty, column, must, self.plan.form.failed, failed=not self.plan.form.strict, clip=True
        )
        odd = good & ((value < 0) | (value > MAX_TOKENS) | (value != np.floor(value)))
        self._unfit(piece, keep, odd, column, must, f"{column} is no length", clip=True)
        return np.where(keep, of_cells.whole(np.where(good, value, 1.0)), 1).astype(np.int32)

    def _note_failures(self, piece: Piece, keep: NDArray[np.bool_]) -> None:
        if "status" in self.plan.columns:
            bad = keep & of_cells.failed(piece.cells[self.plan.columns["status"]])
            if bad.any():
                self._leave_out("failed, by its status", int(bad.sum()), "")
                keep &= ~bad

    def _unfit(
        self,
        piece: Piece,
        keep: NDArray[np.bool_],
        bad: NDArray[np.bool_],
        column: str,
        said: str,
        why: str,
        *,
        failed: bool = False,
        clip: bool = False,
        shown: bool = True,
    ) -> None:
        """Refuse, leave out or clip the rows that are bad."""
        bad = bad & keep
        if not bad.any():
            return
        unfit = self.plan.unfit or ("skip" if failed else "refuse")
        num = int(bad.sum())
        if unfit == "clip" and clip:
            self.clipped[f"{column} {said}"] += num
            return
        first = self._where(piece, int(bad.argmax()), column, said, shown)
        if unfit == "refuse":
            raise InputError(f"{self.path}: {first}")
        self._leave_out(why, num, first)
        keep &= ~bad

    def _leave_out(self, why: str, num: int, first: str) -> None:
        problem = self.left_out.setdefault(why, _Problem(first=first))
        problem.count += num

    def _where(self, piece: Piece, row: int, column: str, said: str, shown: bool) -> str:
        counted = "row" if self.plan.kind == "parquet" else "line"
        where = f"{counted} {piece.lines[row]}"
        width = None if piece.num_cells is None else piece.num_cells[row]
        if width is not None and width < piece.width:
            return f"{where} has {width} cells, the header has {piece.width}"
        cell = of_cells.texts(piece.cells[column][row : row + 1])[0]
        comma = "," if "must" in said else ""
        return f"{where}, {column}: {cell!r}{comma} {said}" if shown else f"{where}, {column}: {said}"

    def _adapters(self, piece: Piece) -> NDArray[np.int32]:
        found = of_cells.texts(piece.cells[self.plan.columns["adapter"]])
        for name in dict.fromkeys(found):
            self.names.setdefault(name, len(self.names))
        return np.fromiter(map(self.names.__getitem__, found), np.int32, len(found))

    def _blocks(self, piece: Piece, keep: NDArray[np.bool_]) -> None:
        cells = piece.cells[self.plan.columns["blocks"]]
        lists = [_listed(cell) for cell in cells]
        kept = [each for each, wanted in zip(lists, keep, strict=True) if wanted]
        if any(each is None for each in kept):
            raise InputError(f"{self.path}: {self.plan.columns['blocks']}: must be lists of whole numbers")
        self.parts.setdefault("length", []).append(np.fromiter(map(len, kept), np.int64, len(kept)))
        try:
            flat = np.array([block for each in kept for block in each], dtype=np.int64)
        except (ValueError, TypeError, OverflowError):
            raise InputError(f"{self.path}: {self.plan.columns['blocks']}: must be lists of whole numbers") from None
        self.parts.setdefault("block", []).append(flat)

    def trace(self, notes: tuple[str, ...]) -> Trace:
        """All rows, in order of arrival."""
        joined = {role: np.concatenate(self.parts.pop(role)) for role in list(self.parts)}
        num = next((len(joined[role]) for role in ("time", "prompt", "output") if role in joined), 0)
        if not num:
            first = next((problem.first for problem in self.left_out.values() if problem.first), "")
            raise InputError(f"{self.path}: has no requests that could be served{': ' if first else ''}{first}")
        arrival, origin, zero = self._arrivals(joined.pop("time", None))
        order = None if arrival is None or _ascends(arrival) else np.argsort(arrival, kind="stable")
        blocks = self._shared(joined)
        columns = {role: _sorted(joined.get(role), order) for role in ("prompt", "output", "adapter")}
        adapter, names = _named(columns["adapter"], self.names)
        arrival = None if arrival is None else _read_only(_sorted(arrival, order))
        trace_columns = [None if part is None else _read_only(part) for part in (columns["prompt"], columns["output"])]
        facts = self._facts(arrival, trace_columns, adapter, names, (origin, zero), notes)
        shared = blocks if blocks is None or order is None else blocks.take(order)
        return Trace(arrival, trace_columns[0], trace_columns[1], adapter, names, shared, facts)

    def _arrivals(self, times: NDArray[Any] | None) -> tuple[F8 | None, str | None, float]:
        """Arrivals in seconds, the time of day that is 0 s, and what was taken off all times of the file."""
        if times is None:
            return None, None, 0.0
        first = times.min()
        if times.dtype == np.int64:
            seconds = (times - first).astype(np.float64)
            seconds /= 1e9
            return seconds, of_cells.iso(int(first)), int(first)
        shift = self.plan.shift
        since_1970 = of_cells.is_since_1970(float(first))
        if shift or (shift is None and since_1970):
            times -= first
            return times, of_cells.iso(round(float(first) * 1e6) * 1000) if since_1970 else None, float(first)
        return times, None, 0.0

    def _shared(self, joined: Mapping[str, NDArray[Any]]) -> SharedBlocks | None:
        if "length" not in joined or not joined["block"].size:
            return None
        offset = np.concatenate([[0], np.cumsum(joined["length"])]).astype(np.int64)
        return SharedBlocks(offset, joined["block"], self.plan.form.block_tokens)

    def _facts(
        self, arrival: F8 | None, tokens: list[Any], adapter: Any, names: tuple[str, ...], zero: Any, notes: Any
    ) -> TraceFacts:
        prompt, output = (None if part is None else int(part.sum(dtype=np.int64)) for part in tokens)
        sums = {role: None if role not in self.sums else round(self.sums[role]) for role in ("prompt", "output")}
        scale = 1e9 if self.plan.unit == of_cells.TIMESTAMP else 1.0
        counts = None if adapter is None else np.bincount(adapter + 1, minlength=len(names) + 1)
        of_names = {} if counts is None else dict(zip(("", *names), counts.tolist(), strict=True))
        return TraceFacts(
            path=str(self.path),
            format=self.plan.form.name,
            rows=self.rows,
            requests=next(len(part) for part in (arrival, *tokens) if part is not None),
            prompt_tokens=prompt,
            output_tokens=output,
            rows_prompt_tokens=sums["prompt"],
            rows_output_tokens=sums["output"],
            first_s=None if arrival is None else float(arrival[0]),
            last_s=None if arrival is None else float(arrival[-1]),
            rows_last_s=None if arrival is None else (self.last - zero[1]) / scale,
            origin=zero[0],
            left_out={why: problem.count for why, problem in self.left_out.items()},
            clipped=dict(self.clipped),
            adapters={name: count for name, count in of_names.items() if count},
            notes=notes,
        )


def _ascends(values: F8) -> bool:
    return bool(np.all(values[1:] >= values[:-1]))


def _sorted(values: Any, order: NDArray[np.intp] | None) -> Any:
    return values if values is None or order is None else values[order]


def _read_only(array: _Array) -> _Array:
    array.flags.writeable = False
    return array


def _named(
    codes: NDArray[np.int32] | None, seen: Mapping[str, int]
) -> tuple[NDArray[np.int32] | None, tuple[str, ...]]:
    """Adapter indices by name; names that are all numbers in numeric order, others in alphabetic order."""
    if codes is None:
        return None, ()
    distinct = {name.strip() for name in seen} - {""}
    numeric = all(name.isdecimal() for name in distinct)
    names = tuple(sorted(distinct, key=lambda name: (int(name) if numeric else 0, name)))
    index = {"": NO_ADAPTER} | {name: i for i, name in enumerate(names)}
    number = np.array([index[name.strip()] for name in seen], dtype=np.int32)
    return _read_only(number[codes]), names


def reading(
    format: str | None = None, columns: Iterable[str] = (), unit: str | None = None, unfit: str | None = None
) -> Reading:
    """How a file is to be read, from words of a command line.

    Parameters
    ----------
    columns
        As ``time=ts``: role and column.

    Raises
    ------
    InputError
        A word is none of those that are known.
    """
    pairs = tuple(_pair(text) for text in columns)
    if unit is not None and unit not in (*of_cells.UNITS, of_cells.TIMESTAMP):
        raise InputError(f"unit {unit!r}: expected one of {', '.join((*of_cells.UNITS, of_cells.TIMESTAMP))}")
    if unfit not in (None, "refuse", "skip", "clip"):
        raise InputError(f"unfit {unfit!r}: expected refuse, skip or clip")
    return Reading(format, pairs, unit, None, cast("Unfit | None", unfit))


def _pair(text: str) -> tuple[str, str]:
    role, equals, name = text.partition("=")
    if not equals or role not in ROLES or not name:
        raise InputError(f"column {text!r}: expected one of {', '.join(ROLES)}, an equals sign and a column")
    return role, name
