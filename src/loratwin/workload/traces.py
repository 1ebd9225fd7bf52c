"""Request traces in CSV files: the Azure form, and ours.

Azure LLM inference traces (https://github.com/Azure/AzurePublicDataset) have the columns TIMESTAMP, ContextTokens and
GeneratedTokens. Ours has arrival_s and, each optional, adapter, prompt_tokens and output_tokens.
"""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import InputError
from loratwin.workload.arrays import BASE, F8, I4
from loratwin.workload.tables import MAX_TOKENS

_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)?")
_Array = TypeVar("_Array", bound=NDArray[Any])


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests of a trace in order of arrival. Arrays have shape (num_requests,) and are read-only."""

    arrival_s: F8
    """Seconds after the first request of the trace (Azure), or as written in the file (ours)."""
    prompt_tokens: I4 | None
    output_tokens: I4 | None
    adapter: I4 | None
    """Index into `adapter_names`, -1 where the cell is empty; None: the trace has no such column."""
    adapter_names: tuple[str, ...]
    blocks: tuple[tuple[int, ...], ...] | None = None
    """Hashes of each prompt's blocks (Mooncake's `hash_ids`): the same hash, the same `block_tokens` tokens."""
    block_tokens: int = 0


def read_trace(path: Path) -> Trace:
    """Read a trace, once for each state of the file.

    Raises
    ------
    InputError
        The file cannot be read, lacks a column, or has a cell that makes no sense; says which.
    """
    try:
        state = os.stat(path)
        return _read(path, state.st_mtime_ns, state.st_size)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from None


@lru_cache(maxsize=4)
def _read(path: Path, mtime_ns: int, size: int) -> Trace:
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    header, rows = [name.strip() for name in rows[0]] if rows else [], [row for row in rows[1:] if row]
    if not header or not rows:
        raise InputError(f"{path}: has no requests")
    for line, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{path}: line {line} has {len(row)} cells, the header has {len(header)}")
    return _interpret(path, dict(zip(header, zip(*rows, strict=True), strict=True)))


def _interpret(path: Path, columns: dict[str, tuple[str, ...]]) -> Trace:
    if "TIMESTAMP" in columns:
        _require(path, columns, ("TIMESTAMP", "ContextTokens", "GeneratedTokens"))
        times, prompt, output = _timestamps(path, columns["TIMESTAMP"]), "ContextTokens", "GeneratedTokens"
    else:
        _require(path, columns, ("arrival_s",))
        times, prompt, output = _numbers(path, columns, "arrival_s"), "prompt_tokens", "output_tokens"
        if times.min() < 0:
            raise InputError(f"{path}: line {int(times.argmin()) + 2}, arrival_s: must not be negative")
    order = np.argsort(times, kind="stable")
    adapter, names = _adapters(columns.get("adapter"))
    tokens = [_tokens(path, columns, name) for name in (prompt, output)]
    prompts, outputs, adapters = (None if part is None else _read_only(part[order]) for part in (*tokens, adapter))
    return Trace(_read_only(times[order]), prompts, outputs, adapters, names)


def _read_only(array: _Array) -> _Array:
    array.flags.writeable = False
    return array


def _require(path: Path, columns: dict[str, tuple[str, ...]], needed: tuple[str, ...]) -> None:
    for name in needed:
        if name not in columns:
            raise InputError(
                f"{path}: column {name!r} is missing; a trace has TIMESTAMP, ContextTokens, GeneratedTokens, or "
                f"arrival_s and optionally adapter, prompt_tokens, output_tokens; this file has {', '.join(columns)}"
            )


def _timestamps(path: Path, cells: tuple[str, ...]) -> F8:
    """Seconds after the earliest of the given times of day, shape (num_requests,)."""
    for line, cell in enumerate(cells, start=2):
        if not _TIME.fullmatch(cell.strip()):
            example = "2023-11-16 18:15:46.68 (UTC)"
            raise InputError(f"{path}: line {line}, TIMESTAMP: {cell!r} is not a time like {example}")
    try:
        times = np.array([cell.strip().removesuffix("+00:00").removesuffix("Z") for cell in cells], "datetime64[ns]")
    except ValueError as error:
        raise InputError(f"{path}: TIMESTAMP: {error}") from None
    seconds: F8 = (times - times.min()).astype(np.int64) / 1e9
    return seconds


def _numbers(path: Path, columns: dict[str, tuple[str, ...]], name: str) -> F8:
    try:
        values = np.array(columns[name], dtype=float)
    except ValueError:
        values = np.array([_float_or_nan(cell) for cell in columns[name]])
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise InputError(f"{path}: line {bad[0] + 2}, {name}: {columns[name][bad[0]]!r} is not a number")
    return values


def _float_or_nan(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _tokens(path: Path, columns: dict[str, tuple[str, ...]], name: str) -> I4 | None:
    if name not in columns:
        return None
    values = _numbers(path, columns, name)
    bad = np.flatnonzero((values < 1) | (values > MAX_TOKENS) | (values != np.floor(values)))
    if bad.size:
        cell = columns[name][bad[0]]
        raise InputError(f"{path}: line {bad[0] + 2}, {name}: {cell!r}, must be a whole number from 1 to {MAX_TOKENS}")
    return values.astype(np.int32)


def _adapters(cells: tuple[str, ...] | None) -> tuple[NDArray[np.int32] | None, tuple[str, ...]]:
    """Adapter indices by name; names that are all numbers in numeric order, others in alphabetic order."""
    if cells is None:
        return None, ()
    distinct = {cell.strip() for cell in cells} - {""}
    numeric = all(name.isdecimal() for name in distinct)
    names = tuple(sorted(distinct, key=lambda name: (int(name) if numeric else 0, name)))
    index = {"": BASE} | {name: i for i, name in enumerate(names)}
    return np.array([index[cell.strip()] for cell in cells], dtype=np.int32), names
