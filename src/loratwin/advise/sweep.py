"""A sweep of the batch: what one server does with each `max_num_seqs`, everything else the same.

From a table of measured runs, from records of runs, or from the twin.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loratwin.errors import DataError, InputError
from loratwin.metrics import summarize
from loratwin.perf import Profile
from loratwin.perf.gpu_share import gpu_busy
from loratwin.records import Run
from loratwin.simulate import server_configs, simulate
from loratwin.workload import Workload

NAN = math.nan

COLUMNS = {
    "model": "llm", "max_num_seqs": "batch", "total_token_throughput": "throughput", "mean_itl_ms": "itl_ms",
    "running_mean_0": "running", "kv_usage_max_0": "kv_used", "kv_tokens": "kv_tokens", "gpu_util_mean": "gpu_busy",
}  # fmt: skip
"""Of a table of measured runs, and what they are called here; `gpu_util_mean` is in per cent."""


@dataclass(frozen=True)
class BatchPoint:
    """What a server does with one `max_num_seqs`.

    Parameters
    ----------
    batch
        `max_num_seqs`.
    throughput
        Tokens per second, prompts included.
    itl_ms
        Mean time between tokens.
    running
        Requests that run, on average.
    kv_used
        Largest share of the KV cache in use, 0 to 1.
    kv_tokens
        Size of the KV cache.
    gpu_busy
        Share of the time in which the GPU works; NaN: not known.
    """

    batch: int
    throughput: float
    itl_ms: float
    running: float
    kv_used: float
    kv_tokens: float
    gpu_busy: float = NAN


@dataclass(frozen=True)
class BatchSweep:
    """Points of one LLM, by rising batch.

    Parameters
    ----------
    llm
        Its name.
    source
        Where they come from, for people.
    """

    llm: str
    source: str
    points: tuple[BatchPoint, ...]

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.points, key=lambda point: point.batch))
        if len(ordered) < 2:
            raise InputError(f"the sweep of {self.llm} has {len(ordered)} point(s): at least two batches are needed")
        batches = [point.batch for point in ordered]
        if len(set(batches)) < len(batches):
            raise InputError(f"the sweep of {self.llm} has a batch twice: {batches}")
        object.__setattr__(self, "points", ordered)

    def at(self, batch: int) -> BatchPoint | None:
        """The point of this batch; None: there is none."""
        return next((point for point in self.points if point.batch == batch), None)


def read_sweeps(path: str | Path) -> list[BatchSweep]:
    """Sweeps of a table with a row for each run, by LLM; runs of several servers, or that failed, are left out.

    Parameters
    ----------
    path
        CSV with the columns of `COLUMNS`; `outcome` (ok), `multiple_servers` and `chunked`, where they are, say which
        rows count, and of rows of one batch the first does.

    Raises
    ------
    DataError
        It cannot be read, a column is missing, or a cell is no number.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from None
    missing = [name for name in COLUMNS if rows and name not in rows[0] and name != "gpu_util_mean"]
    if missing or not rows:
        raise DataError(f"{path}: {'no rows' if not rows else f'no column {missing[0]}'}")
    points: dict[str, dict[int, BatchPoint]] = {}
    for number, row in enumerate(rows, 2):
        if _counts(row):
            point = _point(row, f"{path}, line {number}")
            points.setdefault(row["model"], {}).setdefault(point.batch, point)
    return [BatchSweep(llm, f"measured, {path}", tuple(found.values())) for llm, found in points.items()]


def _counts(row: Mapping[str, str]) -> bool:
    several = row.get("multiple_servers", "") not in ("", "1", "1.0", "False", "false")
    return row.get("outcome", "ok") == "ok" and not several and row.get("chunked", "False") not in ("True", "true")


def _point(row: Mapping[str, str], where: str) -> BatchPoint:
    values: dict[str, float] = {}
    for column, name in COLUMNS.items():
        if name != "llm":
            try:
                values[name] = float(row.get(column) or "nan")
            except ValueError:
                raise DataError(f"{where}: {column} = {row[column]!r} is no number") from None
    for name in ("batch", "throughput", "itl_ms"):
        if not values[name] > 0:
            raise DataError(f"{where}: {name} = {values[name]:g}, but it must be above 0")
    values["gpu_busy"] /= 100
    return BatchPoint(batch=int(values.pop("batch")), **values)


def sweep_of_runs(runs: Mapping[str, Run]) -> BatchSweep:
    """A sweep of records, which must be of one LLM and differ in `max_num_seqs`.

    Raises
    ------
    InputError
        Records of several LLMs, a batch twice, or a single one.
    """
    llms = sorted({run.provenance.llm or "the LLM" for run in runs.values()})
    if len(llms) > 1:
        raise InputError(f"the records are of several LLMs ({', '.join(llms)}): a sweep is of one")
    points = tuple(_of_run(run) for run in runs.values())
    return BatchSweep(llms[0] if llms else "the LLM", "records", points)


def _of_run(run: Run) -> BatchPoint:
    figures = summarize(run, percentiles=False)
    return BatchPoint(
        batch=run.config.max_num_seqs,
        throughput=figures.total_throughput,
        itl_ms=figures.itl_mean_ms,
        running=figures.running_mean,
        kv_used=figures.kv_usage_max,
        kv_tokens=float(run.kv_tokens or NAN),
        gpu_busy=_told_busy(run),
    )


def _told_busy(run: Run) -> float:
    """Mean utilization that NVML told in the window, 0 to 1; NaN: nobody asked."""
    for samples in run.samples:
        for series in samples.series:
            if samples.source == "gpu" and "util" in series.name:
                inside = series.values[(samples.time_s >= 0) & (samples.time_s <= run.window_s)]
                return float(inside.mean()) / 100 if len(inside) else NAN
    return NAN


def sweep_twin(
    workload: Workload, profile: Profile, batches: Sequence[int], max_loras: int | None = None, **options: Any
) -> BatchSweep:
    """The twin's sweep over `max_num_seqs`, of one workload.

    Parameters
    ----------
    max_loras
        Slots; None: one for each adapter, LoRA off where the workload has none.
    **options
        Other fields of `EngineConfig`, as for `simulate.server_configs`.

    Raises
    ------
    InputError
        As `simulate`.
    """
    slots = None if max_loras is None else [max_loras]
    points = []
    for batch in batches:
        (config,) = server_configs(workload, profile, slots, max_num_seqs=batch, **options)
        run = simulate(workload, profile, config)
        points.append(replace(_of_run(run), gpu_busy=gpu_busy(profile, run.steps)))
    return BatchSweep(profile.llm.name, f"simulated, {profile.name}", tuple(points))
