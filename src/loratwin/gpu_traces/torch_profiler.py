"""torch.profiler: the Chrome trace that `export_chrome_trace` writes, also .gz.

With a GPU its kernels are rows, and a kernel's ranges are those around the call that launched it (the same number under
`correlation`). Without a GPU the operators are, each less the operators that it called itself. Of products of matrices
the shapes, where they were recorded, tell operations and bytes.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loratwin.errors import DataError
from loratwin.gpu_traces.phases import PHASES, PhaseInterval, phases_at, range_phase
from loratwin.gpu_traces.trace import KernelTrace, make_trace

KERNELS = ("kernel", "gpu_memcpy", "gpu_memset")
CALLS = ("cuda_runtime", "cuda_driver")
RANGES = ("user_annotation",)
OPERATORS = ("cpu_op",)
SIZES = {"float": 4, "c10::BFloat16": 2, "c10::Half": 2, "double": 8}
"""Bytes of a number by the type that a trace calls it."""

Event = Mapping[str, Any]


def read_torch(path: Path) -> KernelTrace:
    """Kernels of a trace, or its operators where it has none.

    Raises
    ------
    DataError
        It is no such trace, is cut short, or has neither kernels nor operators.
    """
    data = _load(path)
    events = [event for event in data["traceEvents"] if event.get("ph") == "X" and "dur" in event]
    of = _by_category(events, path)
    ranges = [
        PhaseInterval(event["ts"], event["ts"] + event["dur"], phase)
        for event in _every(of, RANGES)
        if (phase := range_phase(str(event["name"]))) is not None
    ]
    kernels = _every(of, KERNELS)
    rows = _launched(kernels, _every(of, CALLS)) if kernels else _without_called(_every(of, OPERATORS))
    if not rows:
        raise DataError(f"{path}: neither kernels nor operators are in it: were activities recorded?")
    range_phases, index = phases_at(ranges, np.array([called for _, called, _ in rows], np.float64))
    counted = [_counted(event) if not kernels else (math.nan, math.nan) for event, _, _ in rows]
    return make_trace(
        "torch.profiler", str(path), [str(event["name"]) for event, _, _ in rows],
        phase=np.array([PHASES.index(one.phase) for one in range_phases])[index],
        batch=np.array([one.batch for one in range_phases])[index],
        duration_s=[1e-6 * duration for _, _, duration in rows], gpu=_gpu(data),
        counters={"operations": [each[0] for each in counted], "bytes": [each[1] for each in counted]},
    )  # fmt: skip


def _load(path: Path) -> dict[str, Any]:
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as file:
            data = json.load(file)
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path}: not a whole trace of torch.profiler ({error})") from None
    if not isinstance(data, dict) or not isinstance(data.get("traceEvents"), list):
        raise DataError(f"{path}: no traceEvents: not what torch.profiler's export_chrome_trace writes")
    return data


def _by_category(events: Iterable[Event], path: Path) -> dict[str, list[Event]]:
    of: dict[str, list[Event]] = {}
    for event in events:
        if not all(isinstance(event.get(name), (int, float)) for name in ("ts", "dur")) or "name" not in event:
            raise DataError(f"{path}: an event has no time or name: a trace of another version: {str(event)[:80]}")
        of.setdefault(str(event.get("cat", "")).lower(), []).append(event)
    return of


def _every(of: Mapping[str, list[Event]], categories: Sequence[str]) -> list[Event]:
    return [event for category in categories for event in of.get(category, [])]


def _launched(kernels: Sequence[Event], calls: Sequence[Event]) -> list[tuple[Event, float, float]]:
    """Kernels, when each was called for, and how long it took, in microseconds."""
    called = {_number(event): float(event["ts"]) for event in calls}
    return [(event, called.get(_number(event), float(event["ts"])), float(event["dur"])) for event in kernels]


def _number(event: Event) -> Any:
    return event.get("args", {}).get("correlation")


def _without_called(operators: Sequence[Event]) -> list[tuple[Event, float, float]]:
    """Operators, when each began, and how long it took without those that it called, in microseconds."""
    own = [float(event["dur"]) for event in operators]
    order = sorted(range(len(own)), key=lambda i: (_thread(operators[i]), operators[i]["ts"], -operators[i]["dur"]))
    open_ones: list[int] = []
    for i in order:
        event = operators[i]
        while open_ones and not _within(event, operators[open_ones[-1]]):
            open_ones.pop()
        if open_ones:
            own[open_ones[-1]] -= float(event["dur"])
        open_ones.append(i)
    return [(event, float(event["ts"]), max(0.0, time)) for event, time in zip(operators, own, strict=True)]


def _thread(event: Event) -> tuple[str, str]:
    return str(event.get("pid")), str(event.get("tid"))


def _within(event: Event, around: Event) -> bool:
    return _thread(event) == _thread(around) and bool(event["ts"] < around["ts"] + around["dur"])


def _counted(event: Event) -> tuple[float, float]:
    """Operations and bytes of a product of two matrices whose shapes were recorded; NaN of all others."""
    arguments = event.get("args", {})
    kinds = arguments.get("Input type", [])
    matrices = [
        (shape, SIZES[kind])
        for shape, kind in zip(arguments.get("Input Dims", []), kinds, strict=False)
        if isinstance(shape, list) and len(shape) in (2, 3) and kind in SIZES
    ]
    if event["name"] not in ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm") or len(matrices) < 2:
        return math.nan, math.nan
    (left, size), (right, _) = matrices[-2:]
    rows, inner, columns = math.prod(left[:-1]), left[-1], right[-1]
    moved = math.prod(left) + math.prod(right) + rows * columns
    return 2.0 * rows * inner * columns, float(size * moved)


def _gpu(data: Mapping[str, Any]) -> str:
    names = {str(each.get("name", "")) for each in data.get("deviceProperties", [])} - {""}
    return names.pop() if len(names) == 1 else ""
