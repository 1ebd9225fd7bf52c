"""Nsight Systems: `nsys export --type sqlite`, by the exporter's documentation.

A kernel's launch is the CUDA call of the same correlation number; the ranges around that call are the kernel's. Where
calls were not traced, the kernel's own start decides. Kernels of a CUDA graph traced as a whole are one row, the graph.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from loratwin.errors import DataError
from loratwin.gpu_traces.phases import PHASES, PhaseInterval, phases_at, range_phase
from loratwin.gpu_traces.trace import KernelTrace, make_trace

KERNELS, CALLS, RANGES = "CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_RUNTIME", "NVTX_EVENTS"
GRAPHS = "CUPTI_ACTIVITY_KIND_GRAPH_TRACE"
NEEDED = ("start", "end", "correlationId")
NAMED_BY = ("demangledName", "shortName")
RANGE_TYPES = (59, 60)  # pushed and popped; started and ended

PROCESS_BITS = 24
"""Of a thread's number the lower bits, by which it differs from its process's."""


def read_nsys(path: Path) -> KernelTrace:
    """Kernels of an export with the phases of their ranges.

    Raises
    ------
    DataError
        It is no such export, is cut short, or of a version with other tables.
    """
    with _opened(path) as database:
        tables = _tables(database)
        version = _version(database, tables)
        rows = _kernels(database, path, tables, version)
        ranges = _ranges(database, tables)
        gpu = _gpu(database, tables)
    names = [row[0] for row in rows]
    start, end, called = (np.array([row[i] for row in rows], np.float64) for i in (1, 2, 3))
    range_phases, index = phases_at(ranges, np.where(np.isnan(called), start, called))
    return make_trace(
        f"Nsight Systems{version}", str(path), names,
        phase=np.array([PHASES.index(one.phase) for one in range_phases])[index],
        batch=np.array([one.batch for one in range_phases])[index],
        duration_s=(end - start) / 1e9, gpu=gpu,
    )  # fmt: skip


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        raise DataError(f"{path}: not a whole sqlite export of Nsight Systems ({error})") from None


def _tables(database: sqlite3.Connection) -> dict[str, set[str]]:
    """Columns of each table."""
    names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: {row[1] for row in database.execute(f'PRAGMA table_info("{name}")')} for name in names}


def _version(database: sqlite3.Connection, tables: dict[str, set[str]]) -> str:
    if "META_DATA_EXPORT" not in tables:
        return ""
    export = dict(database.execute("SELECT name, value FROM META_DATA_EXPORT"))
    product, schema = export.get("EXPORT_PRODUCT_VERSION"), export.get("EXPORT_SCHEMA_VERSION")
    return (f" {product}" if product else "") + (f", schema {schema}" if schema else "")


def _kernels(
    database: sqlite3.Connection, path: Path, tables: dict[str, set[str]], version: str
) -> Sequence[tuple[str, int, int, int | None]]:
    """Name, start, end, and when it was called for, in nanoseconds."""
    if KERNELS not in tables and GRAPHS not in tables:
        raise DataError(f"{path}: no table {KERNELS}: was CUDA traced (nsys profile --trace cuda,nvtx)?")
    rows = []
    if KERNELS in tables:
        columns = tables[KERNELS]
        missing = [name for name in NEEDED if name not in columns]
        named_by = next((name for name in NAMED_BY if name in columns), None)
        if missing or named_by is None or "StringIds" not in tables:
            what = f"column {missing[0] if missing else NAMED_BY[0]} in {KERNELS}" if "StringIds" in tables else "table"
            raise DataError(f"{path}: no {what}: an export of another version (this one is{version or ' not told'})")
        name = f"(SELECT value FROM StringIds WHERE id = k.{named_by})"
        rows += _calls(database, tables, KERNELS, f"COALESCE({name}, 'kernel')")
    if GRAPHS in tables:
        rows += _calls(database, tables, GRAPHS, "'CUDA graph'")
    return sorted(rows, key=lambda row: row[1])


def _calls(database: sqlite3.Connection, tables: dict[str, set[str]], table: str, name: str) -> list[Any]:
    """Rows of a table, each with when it was called for; NULL where no calls were traced."""
    columns = tables[table]
    at = "NULL"
    if {"correlationId", "start"} <= tables.get(CALLS, set()) and "correlationId" in columns:
        by_process = "globalTid" in tables[CALLS] and "globalPid" in columns  # numbers are each process's own
        _index_calls(database, f"globalTid >> {PROCESS_BITS}" if by_process else "0")
        process = f"k.globalPid >> {PROCESS_BITS}" if by_process else "0"
        at = f"(SELECT at FROM called WHERE id = k.correlationId AND process = ({process}) LIMIT 1)"
    return database.execute(f'SELECT {name}, k.start, k."end", {at} FROM {table} k').fetchall()


def _index_calls(database: sqlite3.Connection, process: str) -> None:
    """Calls by number and process: the export has no index, and millions of rows."""
    database.execute("DROP TABLE IF EXISTS temp.called")
    database.execute("CREATE TEMP TABLE called (id INTEGER, process INTEGER, at INTEGER)")
    database.execute(f"INSERT INTO called SELECT correlationId, {process}, start FROM {CALLS}")
    database.execute("CREATE INDEX temp.called_by_id ON called (id, process)")


def _ranges(database: sqlite3.Connection, tables: dict[str, set[str]]) -> list[PhaseInterval]:
    columns = tables.get(RANGES, set())
    if not {"start", "end"} <= columns:
        return []
    names = ["n.text"] if "text" in columns else []
    names += ["(SELECT value FROM StringIds WHERE id = n.textId)"] if "textId" in columns else []
    types = f" AND n.eventType IN {RANGE_TYPES}" if "eventType" in columns else ""
    text = f"COALESCE({', '.join([*names, chr(39) * 2])})"
    query = f'SELECT n.start, n."end", {text} FROM {RANGES} n WHERE n."end" > n.start{types}'
    phases = [(start, end, range_phase(name)) for start, end, name in database.execute(query)]
    return [PhaseInterval(start, end, phase) for start, end, phase in phases if phase is not None]


def _gpu(database: sqlite3.Connection, tables: dict[str, set[str]]) -> str:
    if "name" not in tables.get("TARGET_INFO_GPU", set()):
        return ""
    names = sorted({str(name) for (name,) in database.execute("SELECT name FROM TARGET_INFO_GPU")})
    return names[0] if len(names) == 1 else ""
