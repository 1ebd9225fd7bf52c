"""Nsight Compute: `ncu --csv`, its pages raw (a column for each metric) and details (a row for each).

By the tool's documentation. Counters are taken by their own names, from which their meaning is clear: `l1tex__` is the
first cache, `lts__` the second; `fadd`, `fmul`, `ffma` are single precision, `d...` double, `h...` half. Operations of
the tensor cores are told by `sm__ops_path_tensor...`, where a report has it; without it the operations of a matrix
product on tensor cores are not known, and are not said to be those of the other units.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from loratwin.errors import DataError
from loratwin.gpu_traces.classes import MATMUL, kernel_class
from loratwin.gpu_traces.phases import PHASES, RangePhase, range_phase
from loratwin.gpu_traces.trace import COUNTERS, KernelTrace, make_trace

NAN = math.nan

KERNEL, METRIC, UNIT, VALUE = "Kernel Name", "Metric Name", "Metric Unit", "Metric Value"
NVTX = ("Push/Pop_Range", "Start/Stop_Range")
"""In the heading of a column with the ranges around a kernel, the innermost last."""

UNITS = {
    "s": 1.0, "second": 1.0, "ms": 1e-3, "msecond": 1e-3, "us": 1e-6, "usecond": 1e-6, "ns": 1e-9, "nsecond": 1e-9,
    "byte": 1.0, "kbyte": 1e3, "mbyte": 1e6, "gbyte": 1e9, "tbyte": 1e12, "%": 0.01,
    "hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9, "cycle": 1.0, "cycle/second": 1.0, "cycle/usecond": 1e6,
    "cycle/nsecond": 1e9, "cycle/s": 1.0, "cycle/us": 1e6, "cycle/ns": 1e9,
}  # fmt: skip
"""What a value is multiplied by; others (inst, warp, ...) are counted as they are."""

DETAILS = {
    ("Duration", ""): "gpu__time_duration.sum",
    ("DRAM Throughput", "%"): "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    ("Memory Throughput", "byte/second"): "dram__bytes.sum.per_second",
    ("L1/TEX Hit Rate", "%"): "l1tex__t_sector_hit_rate.pct",
    ("L2 Hit Rate", "%"): "lts__t_sector_hit_rate.pct",
    ("No Eligible", "%"): "no_eligible",
}
"""Headings of the page "details", with the unit where two metrics have one heading, and the counters they are."""

DURATION = ("gpu__time_duration.sum", "gpu__time_duration.avg")
DRAM_BUSY = (
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed",
)
READ = ("dram__bytes_read.sum", "dram__bytes_op_read.sum")
WRITTEN = ("dram__bytes_write.sum", "dram__bytes_op_write.sum")
ISSUED = ("smsp__issue_active.avg.pct_of_peak_sustained_active", "smsp__issue_active.avg.pct")
WAIT = "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio"
BETWEEN = ("smsp__average_warp_latency_per_inst_issued.ratio", "smsp__average_warp_latency_issue_stalled.ratio")
CYCLES_PER_SECOND = ("smsp__cycles_elapsed.avg.per_second", "sm__cycles_elapsed.avg.per_second")
TENSOR = re.compile(r"sm__ops_path_tensor\w*\.sum")
EACH_OPERATION = {
    f"smsp__sass_thread_inst_executed_op_{width}{kind}_pred_on.sum": vector * count
    for width, vector in (("f", 1.0), ("d", 1.0), ("h", 2.0))  # half precision: two numbers an instruction
    for kind, count in (("add", 1.0), ("mul", 1.0), ("fma", 2.0))
}
"""Floating-point operations of an instruction of one thread."""

PER_CYCLE = ".per_cycle_elapsed"


class _Launch(NamedTuple):
    name: str
    range: RangePhase
    metrics: dict[str, float]


def read_ncu(path: Path) -> KernelTrace:
    """Kernels of a CSV that `ncu` printed.

    Raises
    ------
    DataError
        It has no such heading, ends within a row, has no durations, or a value that is no number.
    """
    launches = list(_launches(path))
    seconds = [_first(launch.metrics, DURATION) for launch in launches]
    if launches and any(math.isnan(duration) for duration in seconds):
        raise DataError(f"{path}: no gpu__time_duration of {launches[0].name}: export with --page raw or details")
    counters = [_counters(launch, duration) for launch, duration in zip(launches, seconds, strict=True)]
    return make_trace(
        "Nsight Compute", str(path), [launch.name for launch in launches],
        phase=[PHASES.index(launch.range.phase) for launch in launches],
        batch=[launch.range.batch for launch in launches],
        duration_s=seconds, counters={name: [values[name] for values in counters] for name in COUNTERS},
    )  # fmt: skip


def _launches(path: Path) -> Iterator[_Launch]:
    heading, rows = _rows(path)
    if METRIC in heading:
        yield from _long(rows)
    else:
        yield from _wide(rows, path)


def _rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The heading and the rows under it; what the program printed before is left out."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from None
    first = next((i for i, line in enumerate(lines) if f'"{KERNEL}"' in line or line.startswith("ID,")), None)
    if first is None:
        raise DataError(f"{path}: no column {KERNEL!r}: not what `ncu --csv` prints")
    heading = next(csv.reader([lines[first]]))
    rows = []
    for number, row in enumerate(csv.reader(lines[first + 1 :]), first + 2):
        if row and not row[0].startswith("=="):
            if len(row) != len(heading):
                raise DataError(f"{path}, line {number}: {len(row)} of {len(heading)} columns: is the file cut short?")
            rows.append(dict(zip(heading, row, strict=True)))
    if KERNEL not in heading:
        raise DataError(f"{path}: no column {KERNEL!r}: not what `ncu --csv` prints")
    return heading, rows


def _long(rows: Sequence[Mapping[str, str]]) -> Iterator[_Launch]:
    """The page details, or metrics that were asked for by name."""
    grouped: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        grouped.setdefault((row.get("Process ID", ""), row["ID"]), []).append(row)
    for mine in grouped.values():
        metrics: dict[str, float] = {}
        for row in mine:
            if row[METRIC]:
                metrics.setdefault(_counter(row[METRIC], row[UNIT]), _value(row[VALUE], row[UNIT], row[METRIC]))
        yield _Launch(mine[0][KERNEL], _innermost(mine[0]), metrics)


def _counter(name: str, unit: str) -> str:
    """The counter that a heading of the page details stands for."""
    kind = "%" if unit == "%" else "byte/second" if re.fullmatch(r"[KMGT]?byte/s(econd)?", unit) else ""
    return DETAILS.get((name, kind), name)


def _wide(rows: Sequence[Mapping[str, str]], path: Path) -> Iterator[_Launch]:
    """The page raw: units in the row under the heading."""
    if not rows:
        return
    if rows[0][KERNEL]:
        raise DataError(f"{path}: no row of units under the heading: not what `ncu --csv --page raw` prints")
    units = rows[0]
    counters = [name for name in units if re.match(r"(smsp|sm|gpu|dram|lts|l1tex)__", name)]
    for row in rows[1:]:
        metrics = {name: _value(row[name], units[name], name) for name in counters}
        yield _Launch(row[KERNEL], _innermost(row), metrics)


def _innermost(row: Mapping[str, str]) -> RangePhase:
    """The innermost range's phase: ranges stand in quotes, the name behind the domain."""
    for heading, text in row.items():
        if any(word in heading for word in NVTX) and text:
            for name in reversed(re.findall(r'"([^"]*)"', text) or [text]):
                if (phase := range_phase(name)) is not None:
                    return phase
    return RangePhase("", 0)


def _value(text: str, unit: str, name: str) -> float:
    """A value in seconds, bytes, shares or counts."""
    if text.strip().lower() in ("", "n/a", "nan", "(null)"):
        return NAN
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        if re.match(r"(gpu__time|dram__|lts__t|l1tex__t|smsp__sass|smsp__average)", name):
            raise DataError(f"Nsight Compute: {name} = {text!r} is no number") from None
        return NAN
    return value * _factor(unit)


def _factor(unit: str) -> float:
    plain = unit.strip().lower()
    if plain in UNITS:
        return UNITS[plain]
    return UNITS.get(plain.removesuffix("/second").removesuffix("/s"), 1.0)


def _first(metrics: Mapping[str, float], names: Sequence[str]) -> float:
    """The first that is told."""
    return next((metrics[name] for name in names if not math.isnan(metrics.get(name, NAN))), NAN)


def _counters(launch: _Launch, seconds: float) -> dict[str, float]:
    metrics = launch.metrics
    moved = _first(metrics, READ) + _first(metrics, WRITTEN)
    moved = _first({"sum": moved} | metrics, ("sum", "dram__bytes.sum"))
    if math.isnan(moved):
        moved = metrics.get("dram__bytes.sum.per_second", NAN) * seconds
    no_eligible = metrics.get("no_eligible", 1 - _first(metrics, ISSUED))
    return {
        "bytes": moved,
        "operations": _operations(launch, seconds),
        "dram_busy": _first(metrics, DRAM_BUSY),
        "stalled": no_eligible,
        "memory_wait": metrics.get(WAIT, NAN) / _first(metrics, BETWEEN),
        "l1_hits": metrics.get("l1tex__t_sector_hit_rate.pct", NAN),
        "l2_hits": metrics.get("lts__t_sector_hit_rate.pct", NAN),
    }


def _operations(launch: _Launch, seconds: float) -> float:
    """Floating-point operations; NaN where the tensor cores' part of a matrix product is not told."""
    metrics = launch.metrics
    tensor = [value for name, value in metrics.items() if TENSOR.fullmatch(name) and not math.isnan(value)]
    cycles = _first(metrics, CYCLES_PER_SECOND) * seconds
    others = [
        count
        * _first({"sum": metrics.get(name, NAN), "rate": metrics.get(name + PER_CYCLE, NAN) * cycles}, ("sum", "rate"))
        for name, count in EACH_OPERATION.items()
    ]
    known = [each for each in others if not math.isnan(each)]
    if not tensor and (not known or kernel_class(launch.name) == MATMUL):
        return NAN
    return sum(tensor) + sum(known)
