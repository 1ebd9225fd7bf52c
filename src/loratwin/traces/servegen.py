"""Clients that others describe by how often they asked in each window (ServeGen), not request by request.

Two forms: a table with the columns client, start_s, rate and, each optional, cv, workload, prompt_tokens_mean and
output_tokens_mean; and ServeGen's own folder of `chunk-N-trace.csv` (start, rate, cv, ...; no header) with
`chunk-N-dataset.json` (for some windows the shares of lengths) beside it. https://github.com/alibaba/ServeGen
"""

from __future__ import annotations

import ast
import csv
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from loratwin.errors import InputError
from loratwin.traces import cells as of_cells
from loratwin.traces.formats import plain
from loratwin.traces.rows import UNREADABLE, OpenedFile, open_table, read_table
from loratwin.traces.trace import F8, I4, TraceFacts

WINDOW_S = 600.0
"""Of a file that holds one window of each client."""

_CHUNK = re.compile(r"chunk-(\d+)-trace\.csv")
_NEEDED = ("client", "start_s", "rate")


@dataclass(frozen=True, eq=False)
class Clients:
    """How often each client asked; the first four arrays have shape (num_windows,), in order of client and time."""

    client: I4
    """Index into `names`."""
    start_s: F8
    rate_per_s: F8
    cv: F8
    """Standard deviation / mean of the gaps in the window; 1 where it is not told."""
    window_s: float
    names: tuple[str, ...]
    prompt_mean: F8
    """Of each client, NaN where it is not told; shape (num_clients,)."""
    output_mean: F8

    @property
    def end_s(self) -> float:
        """When the last window ends."""
        return float(self.start_s.max()) + self.window_s

    def facts(self, path: Path) -> TraceFacts:
        """What is in the file."""
        expected = np.bincount(self.client, self.rate_per_s * self.window_s, len(self.names))
        with_lengths = np.isfinite(self.prompt_mean) & np.isfinite(self.output_mean)
        known = int(with_lengths.sum())
        prompt = int((expected * np.nan_to_num(self.prompt_mean))[with_lengths].sum()) if known else None
        output = int((expected * np.nan_to_num(self.output_mean))[with_lengths].sum()) if known else None
        notes = [
            f"rates of clients in windows of {self.window_s:g} s, not requests: arrivals: {{kind: clients}} draws them"
        ]
        if known < len(self.names):
            notes.append(f"mean lengths are known of {known} of {len(self.names)} clients; tokens are theirs")
        counts = dict(zip(self.names, np.rint(expected).astype(int).tolist(), strict=True))
        first, last, total = float(self.start_s.min()), self.end_s, round(float(expected.sum()))
        return TraceFacts(
            str(path), "servegen", len(self.client), total, prompt, output, prompt, output, first, last, last, None,
            adapters=counts, notes=tuple(notes),
        )  # fmt: skip


def is_clients(path: Path) -> bool:
    """Whether a folder or file is of clients."""
    if path.is_dir():
        return any(_CHUNK.fullmatch(file.name) for file in path.iterdir())
    return bool(_CHUNK.fullmatch(path.name)) or _has_columns(path)


def _has_columns(path: Path) -> bool:
    try:
        with open_table(path) as opened:
            return set(_NEEDED) <= _columns(read_table(opened, path)).keys()
    except (InputError, *UNREADABLE):
        return False


def read_clients(path: Path, workload: str | None = None) -> Clients:
    """Read clients, once for each state of the file.

    Parameters
    ----------
    workload
        Which of several workloads, where the table has such a column.

    Raises
    ------
    InputError
        It cannot be read, is none, has several workloads and none is named, or holds an impossible value.
    """
    try:
        state = os.stat(path)
        return _read(path, workload, state.st_mtime_ns, state.st_size)
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


@lru_cache(maxsize=4)
def _read(path: Path, workload: str | None, mtime_ns: int, size: int) -> Clients:
    if path.is_dir() or _CHUNK.fullmatch(path.name):
        return _chunks(path)
    with open_table(path) as opened:
        table = read_table(opened, path)
        names = _columns(table)
        lacking = [name for name in _NEEDED if name not in names]
        if lacking:
            raise InputError(f"{path}: no column {lacking[0]!r}; clients have {', '.join(_NEEDED)}")
        pieces = list(table.pieces(list(names.values()), []))
    columns = {role: [cell for piece in pieces for cell in list(piece.cells[name])] for role, name in names.items()}
    return _of_columns(path, columns, workload)


def _columns(table: OpenedFile) -> dict[str, str]:
    wanted = (*_NEEDED, "cv", "workload", "prompt_tokens_mean", "output_tokens_mean")
    by_plain = {plain(name): name for name in table.header}
    return {name: by_plain[plain(name)] for name in wanted if plain(name) in by_plain}


def _of_columns(path: Path, columns: Mapping[str, Sequence[Any]], workload: str | None) -> Clients:
    keep = _of_workload(path, columns.get("workload"), workload, len(columns["client"]))
    client = np.array(of_cells.texts(columns["client"]), dtype=object)[keep]
    numbers = {
        role: of_cells.numbers(list(columns[role])).value[keep]
        for role in columns
        if role not in ("client", "workload")
    }
    start_s, rate = numbers["start_s"], numbers["rate"]
    bad = np.flatnonzero(~np.isfinite(start_s) | ~np.isfinite(rate) | (start_s < 0) | (rate < 0))
    if bad.size:
        raise InputError(
            f"{path}: window {bad[0] + 1}: start_s {start_s[bad[0]]:g} and rate {rate[bad[0]]:g} make no sense"
        )
    distinct = sorted(set(client), key=lambda name: (len(name), name) if name.isdecimal() else (1_000, name))
    index = {name: i for i, name in enumerate(distinct)}
    who = np.array([index[name] for name in client], dtype=np.int32)
    order = np.lexsort((start_s, who))
    means = [
        _mean_of_each(who, numbers.get(role), len(distinct)) for role in ("prompt_tokens_mean", "output_tokens_mean")
    ]
    width = max(map(len, distinct))
    names = tuple(f"client-{name.zfill(width)}" if name.isdecimal() else name for name in distinct)
    cv = np.nan_to_num(numbers.get("cv", np.ones(len(who))), nan=1.0)
    return Clients(who[order], start_s[order], rate[order], cv[order], _window_s(start_s), names, means[0], means[1])


def _of_workload(path: Path, cells: Any, workload: str | None, num: int) -> np.ndarray:
    """Rows of the workload that is asked for."""
    if cells is None:
        if workload is not None:
            raise InputError(f"{path}: has no column of workloads, and {workload!r} is asked for")
        return np.arange(num)
    texts = of_cells.texts(cells)
    known = list(dict.fromkeys(texts))
    if workload is None and len(known) == 1:
        return np.arange(num)
    if workload not in known:
        asked = "workload: none is named" if workload is None else f"there is no workload {workload!r}"
        raise InputError(f"{path}: {asked}; it holds {', '.join(known)}")
    return np.flatnonzero([text == workload for text in texts])


def _mean_of_each(who: I4, values: F8 | None, num: int) -> F8:
    """The (one) value that each client has, shape (num,)."""
    found = np.full(num, np.nan)
    if values is not None:
        there = np.isfinite(values)
        found[who[there]] = values[there]
    return found


def _window_s(start_s: F8) -> float:
    steps = np.diff(np.unique(start_s))
    return float(steps.min()) if len(steps) else WINDOW_S


def _chunks(path: Path) -> Clients:
    """ServeGen's own files; a client is a chunk."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    chunks = {match[1]: file for file in files if (match := _CHUNK.fullmatch(file.name))}
    columns: dict[str, list[Any]] = {key: [] for key in ("client", "start_s", "rate", "cv")}
    columns |= {key: [] for key in ("prompt_tokens_mean", "output_tokens_mean")}
    for number, file in chunks.items():
        means = _dataset_means(file.with_name(f"chunk-{number}-dataset.json"))
        for row in csv.reader(file.read_text(encoding="utf-8-sig").splitlines()):
            if len(row) >= 3 and (of_cells.numbers(row[:2]).value >= 0).all():  # an empty cell is no window
                values = (number, row[0], row[1], row[2], *means)
                for key, value in zip(columns, values, strict=True):
                    columns[key].append(value)
    if not columns["client"]:
        raise InputError(f"{path}: has no window with requests")
    return _of_columns(path, columns, None)


def _dataset_means(file: Path) -> tuple[float, float]:
    """Mean prompt and output of a client over the windows that tell it; NaN: none does."""
    if not file.is_file():
        return math.nan, math.nan
    found: dict[str, list[float]] = {"input_tokens": [], "output_tokens": []}
    try:
        for window in json.loads(file.read_text(encoding="utf-8")).values():
            for key, means in found.items():
                shares = window.get(key) if isinstance(window, dict) else None
                shares = ast.literal_eval(shares) if isinstance(shares, str) else shares
                if shares:
                    total = sum(shares.values())
                    means.append(sum(float(length) * share for length, share in shares.items()) / total)
    except (ValueError, SyntaxError, AttributeError, TypeError, ZeroDivisionError) as error:
        raise InputError(f"{file}: is no dataset of ServeGen ({error})") from None
    prompt, output = (float(np.mean(means)) if means else math.nan for means in found.values())
    return prompt, output
