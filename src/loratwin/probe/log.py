"""The step log read back: rows of fixed size after a line of JSON, joined with the adapter loads of the worker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import DataError
from loratwin.extras import required
from loratwin.records.atomic import write_atomically
from loratwin.records.columns import BoolArray, ColumnTable, FloatArray, LongArray, column
from loratwin.records.run import StepSeries

Rows = NDArray[np.void]

_CODES = {"q": "<i8", "i": "<i4", "d": "<f8", "b": "<i1"}
_FORMAT = 1
_OUTSIDE, _UNKNOWN = -1, -2  # as in server/loratwin_vllm_probe/loads.py


@dataclass(frozen=True, eq=False)
class LoadTable(ColumnTable):
    """Adapter loads in order of time, those between steps too. Columns have shape (num_loads,)."""

    start_s: FloatArray = column(np.float64)
    duration_s: FloatArray = column(np.float64)  # host time
    adapter: LongArray = column(np.int64)  # the engine's number of it, from 1
    disk: BoolArray = column(np.bool_)  # from disk to host memory; otherwise from there into a slot
    in_step: BoolArray = column(np.bool_)  # it delayed a step; otherwise it came between steps, as at start


def read_steps(log: Path, zero_s: float = 0.0, from_s: float = float("-inf"), to_s: float = float("inf")) -> StepSeries:
    """The steps that started in [from_s, to_s), of a server that is stopped or still runs.

    A step ends when its tokens are given out; it begins when the scheduler is called for it, or when the step before
    ends, whichever is later. With asynchronous scheduling the scheduler works while the step before computes: then
    `schedule_s` (and what part of `load_s` lies before the start) is no part of the duration.

    Parameters
    ----------
    log
        The folder that was given to `server_arguments`.
    zero_s, from_s, to_s
        `time.monotonic()` of this machine; the times given out count from `zero_s`.

    Raises
    ------
    DataError
        There is no log, it is damaged, or several engines wrote at the same time (data parallel).
    """
    rows = _steps(Path(log), zero_s, from_s, to_s)
    names = [name for name in StepSeries.column_types() if name not in ("duration_s", "skipped", "kv_blocks")]
    columns = {name: rows[name] for name in names}
    skipped = None if (rows["skipped"] < 0).any() else rows["skipped"]
    blocks = np.maximum(rows["kv_blocks"], 0)
    return StepSeries(**columns, duration_s=rows["end_s"] - rows["start_s"], skipped=skipped, kv_blocks=blocks)


def read_loads(log: Path, zero_s: float = 0.0) -> LoadTable:
    """Every adapter load of the log, in and between steps; of several workers of one engine, the first one's.

    Raises
    ------
    DataError
        A file is damaged.
    """
    first = [rows for head, rows in _files(Path(log), "loads") if head.get("rank", 0) == 0]
    rows = np.concatenate([np.empty(0, dtype=_LOADS), *first])
    rows = rows[np.argsort(rows["start_s"], kind="stable")]
    start_s = rows["start_s"] - zero_s
    return LoadTable(start_s, rows["duration_s"], rows["adapter"], rows["disk"] > 0, rows["step"] != _OUTSIDE)


def read_notes(log: Path) -> tuple[str, ...]:
    """What the probe had to say, as that this version of vLLM lacks something; each sentence once."""
    path = Path(log) / "notes.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return tuple(dict.fromkeys(lines))


def read_facts(log: Path) -> dict[str, Any]:
    """What the last engine was started with: engine_version, async_scheduling, max_loras, block_size, num_kv_blocks.

    Raises
    ------
    DataError
        There is no log, or it is damaged.
    """
    head, _ = _step_files(Path(log))[-1]
    names = ("engine_version", "async_scheduling", "max_loras", "block_size", "num_kv_blocks")
    return {name: head.get(name) for name in names}


def write_parquet(
    log: Path, path: Path, zero_s: float = 0.0, from_s: float = float("-inf"), to_s: float = float("inf")
) -> Path:
    """Write the steps, with every column that the log has, to a parquet file, whole or not at all.

    Raises
    ------
    DataError
        As `read_steps`.
    InputError
        pyarrow is not there, or the file cannot be written.
    """
    pa, pq = (required(module, "a .parquet file", "parquet") for module in ("pyarrow", "pyarrow.parquet"))
    rows = _steps(Path(log), zero_s, from_s, to_s)
    facts = json.dumps({**read_facts(log), "notes": read_notes(log)})
    table = pa.table({name: rows[name] for name in rows.dtype.names or ()}, metadata={"loratwin_steps": facts})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return write_atomically(path, sink.getvalue().to_pybytes())


def _steps(log: Path, zero_s: float, from_s: float, to_s: float) -> Rows:
    """Rows of all engines, one after the other, with their loads; times from `zero_s`."""
    parts = [_with_loads(rows, head, log) for head, rows in _step_files(log)]
    rows = np.concatenate(parts)
    if (np.diff(rows["start_s"]) < 0).any():
        raise DataError(f"{log}: several engines wrote steps at the same time; a run has one engine")
    chosen: Rows = rows[(rows["start_s"] >= from_s) & (rows["start_s"] < to_s)]
    for name in ("start_s", "end_s", "schedule_start_s"):
        chosen[name] -= zero_s
    return chosen


def _with_loads(steps: Rows, head: dict[str, Any], log: Path) -> Rows:
    """The rows of one engine with `swap_ins`, `disk_loads` and `load_s`; of several workers the largest of each."""
    extra = [("swap_ins", "<i4"), ("disk_loads", "<i4"), ("load_s", "<f8")]
    rows = np.zeros(len(steps), dtype=[*((name, steps.dtype[name]) for name in steps.dtype.names or ()), *extra])
    for name in steps.dtype.names or ():
        rows[name] = steps[name]
    for _, loads in _files(log, "loads"):
        row, mine = _step_of_loads(steps, loads, head["engine"])
        disk, seconds = mine["disk"] > 0, mine["duration_s"]
        num = len(rows)
        rows["swap_ins"] = np.maximum(rows["swap_ins"], np.bincount(row[~disk], minlength=num))
        rows["disk_loads"] = np.maximum(rows["disk_loads"], np.bincount(row[disk], minlength=num))
        rows["load_s"] = np.maximum(rows["load_s"], np.bincount(row, seconds, minlength=num))
    return rows


def _step_of_loads(steps: Rows, loads: Rows, engine: int) -> tuple[LongArray, Rows]:
    """The row of the step that each load delayed, and the loads that delayed one.

    A load says its step by number; where the engine's version does not tell it, the time decides.
    """
    if not len(steps):
        return np.empty(0, dtype=np.int64), loads[:0]
    row = np.searchsorted(steps["step"], loads["step"])
    row[row == len(steps)] = 0
    known = (loads["engine"] == engine) & (steps["step"][row] == loads["step"])
    by_time = np.maximum(np.searchsorted(steps["start_s"], loads["start_s"], side="right") - 1, 0)
    within = (steps["start_s"][by_time] <= loads["start_s"]) & (loads["start_s"] < steps["end_s"][by_time])
    guessed = (loads["step"] == _UNKNOWN) & within
    return np.where(guessed, by_time, row)[known | guessed], loads[known | guessed]


def _step_files(log: Path) -> list[tuple[dict[str, Any], Rows]]:
    files = _files(log, "steps")
    if not files:
        notes = "; ".join(read_notes(log))
        raise DataError(f"{log}: no steps were logged{': ' + notes if notes else ''}; was the server started with it?")
    return files


def _files(log: Path, kind: str) -> list[tuple[dict[str, Any], Rows]]:
    """First line and rows of each file of this kind, the oldest first; one without a whole first line is left out."""
    paths = sorted(log.glob(f"{kind}-*.bin"), key=lambda path: int(path.stem.rsplit("-", 1)[1]))
    return [file for file in map(_read, paths) if file is not None]


def _read(path: Path) -> tuple[dict[str, Any], Rows] | None:
    line, end, data = path.read_bytes().partition(b"\n")
    if not end:
        return None
    try:
        head = json.loads(line)
        dtype = np.dtype([(name, _CODES[code]) for name, code in head["columns"]])
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: not a log of loratwin's probe") from None
    if head["format"] > _FORMAT:
        raise DataError(f"{path}: format {head['format']}; this loratwin reads up to {_FORMAT}")
    whole = len(data) // dtype.itemsize  # a last row that is not complete is dropped
    return head, np.frombuffer(data, dtype=dtype, count=whole)


_LOADS = np.dtype(
    [("engine", "<i8"), ("step", "<i8"), ("start_s", "<f8"), ("duration_s", "<f8"), ("adapter", "<i8"), ("disk", "<i1")]
)
