"""Files as the tools export them, by their documentation: no real profile could be had of nsys and ncu here.

Nsight Systems: tables and columns of its exporter's documentation (`nsys export --type sqlite`). Nsight Compute: pages
raw and details of `ncu --csv`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

PID = 4242 << 24
"""A process's number in an export; its threads' are the same above the lower 24 bits."""


class Launch(NamedTuple):
    """A kernel: called for at `called`, from `start` to `end` on the GPU, all in microseconds."""

    name: str
    called: float
    start: float
    end: float


class Marked(NamedTuple):
    """An NVTX range."""

    text: str
    start: float
    end: float


def nsys_export(
    path: Path, launches: Sequence[Launch], ranges: Sequence[Marked] = (), *, calls: bool = True, old: bool = False
) -> Path:
    """An sqlite export; `old`: of a version with short names only, which keeps ranges' texts in StringIds."""
    database = sqlite3.connect(path)
    run = database.execute
    run("CREATE TABLE StringIds (id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL)")
    run("CREATE TABLE META_DATA_EXPORT (name TEXT NOT NULL PRIMARY KEY, value TEXT)")
    run("INSERT INTO META_DATA_EXPORT VALUES ('EXPORT_SCHEMA_VERSION', '3.11.0')")
    run("CREATE TABLE TARGET_INFO_GPU (id INTEGER, name TEXT NOT NULL, memoryBandwidth INTEGER, smCount INTEGER)")
    run("INSERT INTO TARGET_INFO_GPU VALUES (0, 'NVIDIA H100 80GB HBM3', 3350000000000, 132)")
    named = "shortName INTEGER NOT NULL" if old else "demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL"
    run(
        "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER,"
        f" streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, {named})"
    )
    run(
        "CREATE TABLE NVTX_EVENTS (start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, text TEXT,"
        " globalTid INTEGER, domainId INTEGER, textId INTEGER)"
    )
    if calls:
        run(
            "CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER NOT NULL, end INTEGER NOT NULL, globalTid INTEGER,"
            " correlationId INTEGER, nameId INTEGER NOT NULL)"
        )
    strings: dict[str, int] = {}
    for number, one in enumerate(launches):
        name = strings.setdefault(one.name, len(strings))
        names = [name] if old else [name, name]
        times = [round(1e3 * one.start), round(1e3 * one.end)]
        row = [*times, 0, 7, number, PID, *names]
        run(f"INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES ({', '.join('?' * len(row))})", row)
        if calls:
            at = round(1e3 * one.called)
            run("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, ?, ?, 0)", [at, at + 900, PID + 4250, number])
            other = PID - (1 << 24)  # another process has a call of the same number
            run("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, ?, ?, 0)", [0, 900, other, number])
    for mark in ranges:
        times = [round(1e3 * mark.start), round(1e3 * mark.end)]
        text, text_id = (None, strings.setdefault(mark.text, len(strings))) if old else (mark.text, None)
        run("INSERT INTO NVTX_EVENTS VALUES (?, ?, 59, ?, ?, 0, ?)", [*times, text, PID + 4250, text_id])
    run("INSERT INTO NVTX_EVENTS VALUES (0, NULL, 34, 'a mark', NULL, 0, NULL)")
    database.executemany("INSERT INTO StringIds VALUES (?, ?)", [(i, name) for name, i in strings.items()])
    database.commit()
    database.close()
    return path


RANGE = "thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg"
FIRST = ["ID", "Process ID", "Process Name", "Host Name", RANGE, "Kernel Name", "Context", "Stream"]
SAID_BEFORE = "==PROF== Connected to process 77 (python)\nloading weights, please wait\n"

Metrics = dict[str, tuple[str, str]]
"""Value and unit of each, as they are printed."""


def _who(number: int, kernel: str, nvtx: str) -> list[str]:
    ranges = f'77  "<default domain>:{nvtx}:none:none:none:none:none:none" ' if nvtx else ""
    return [str(number), "77", "python", "here", ranges, kernel, "1", "7"]


def ncu_raw(path: Path, kernels: Sequence[tuple[str, str, Metrics]]) -> Path:
    """`ncu --csv --page raw`: a column for each metric; kernel, range and metrics of each launch."""
    names = list(dict.fromkeys(name for _, _, metrics in kernels for name in metrics))
    units = {name: unit for _, _, metrics in kernels for name, (_, unit) in metrics.items()}
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow([*FIRST, *names])
    writer.writerow([""] * len(FIRST) + [units[name] for name in names])
    for number, (kernel, nvtx, metrics) in enumerate(kernels):
        writer.writerow([*_who(number, kernel, nvtx), *(metrics.get(name, ("n/a", ""))[0] for name in names)])
    path.write_text(SAID_BEFORE + out.getvalue())
    return path


def ncu_details(path: Path, kernels: Sequence[tuple[str, str, Sequence[tuple[str, str, str, str]]]]) -> Path:
    """`ncu --csv --page details`: a row for each metric (section, name, unit, value), and rows of rules."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    last = ["Section Name", "Metric Name", "Metric Unit", "Metric Value", "Rule Name", "Rule Type", "Rule Description"]
    writer.writerow([*FIRST, *last])
    for number, (kernel, nvtx, metrics) in enumerate(kernels):
        for section, name, unit, value in metrics:
            writer.writerow([*_who(number, kernel, nvtx), section, name, unit, value, "", "", ""])
        rule = ["SpeedOfLight", "", "", "", "SOLBottleneck", "OPT", 'Memory, "DRAM", is more heavily used']
        writer.writerow([*_who(number, kernel, nvtx), *rule])
    path.write_text(SAID_BEFORE + out.getvalue())
    return path


def chrome_trace(path: Path, events: Sequence[dict[str, Any]], gpu: str = "") -> Path:
    """`torch.profiler`'s export, compressed where the name says so."""
    data = {
        "schemaVersion": 1,
        "deviceProperties": [{"id": 0, "name": gpu}] if gpu else [],
        "traceEvents": list(events),
    }
    text = json.dumps(data)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def event(cat: str, name: str, ts: float, dur: float, **args: Any) -> dict[str, Any]:
    """One complete event."""
    return {"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": 1, "ts": ts, "dur": dur, "args": args}
