"""Tables in the format of the measurements, their figures made by the twin itself or by hand."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loratwin.calibrate.published.serving import ServingRun, profile_for, read_serving
from loratwin.calibrate.published.start import SHAPES
from loratwin.metrics import summarize
from loratwin.perf import Profile
from loratwin.records import Run
from loratwin.simulate import served_capacity, simulate
from loratwin.simulate.observe import observe

Row = dict[str, str]

LLAMA, QWEN = SHAPES

CONFIGURATION = (
    *("run", "model", "outcome", "max_loras", "served_adapters", "max_lora_rank", "max_num_seqs"),
    *("max_num_batched_tokens", "kv_tokens", "window_s", "adapter_ranks_cycle", "rates", "adapter_rate_values"),
    *("adapter_rate_counts", "prompt_tokens_mean", "output_tokens_mean"),
)
FIGURES = (
    *("completed", "output_tokens", "input_throughput", "output_throughput", "ttft_mean_ms", "ttft_median_ms"),
    *("tpot_mean_ms", "itl_mean_ms", "running_mean", "waiting_mean", "kv_usage_mean"),
)
HEADER = CONFIGURATION + FIGURES

DATA = Path(__file__).parents[3] / "shared/data"
TOOLS = Path(__file__).parents[3] / "shared/tools"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the measurements are not here ({DATA})")
needs_tools = pytest.mark.skipif(not TOOLS.is_dir(), reason=f"the scoring tools are not here ({TOOLS})")


def row(name: Any = "run", *, rate: Any = 0.1, slots: Any = 16, served: Any = 32, **changes: Any) -> Row:
    """One row with configuration columns only, all adapters of one rate; `changes` by column name."""
    values = {
        "run": name,
        "model": LLAMA.name,
        "outcome": "ok",
        "max_loras": slots,
        "served_adapters": served,
        "max_lora_rank": 16,
        "max_num_seqs": 2048,
        "max_num_batched_tokens": 2048,
        "window_s": 60,
        "adapter_ranks_cycle": "8 16",
        "rates": rate,
        "adapter_rate_values": rate,
        "adapter_rate_counts": served,
        "prompt_tokens_mean": 220,
        "output_tokens_mean": 200,
    }
    return {column: str(value) for column, value in {**values, **changes}.items()}


def write_csv(path: Path, rows: Sequence[Row], header: Sequence[str] | None = None) -> Path:
    """Rows as CSV; columns that a row lacks stay empty."""
    columns = header or list(dict.fromkeys(column for item in rows for column in item))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def serving_runs(folder: Path, *rows: Row) -> list[ServingRun]:
    """The rows as `read_serving` sees them."""
    return read_serving(write_csv(folder / "rows.csv", rows))


def simulated(run: ServingRun, profile: Profile | None = None, seed: int = 0) -> Run:
    """The run as the twin sees it."""
    profile = profile or profile_for(run.model)
    return simulate(run.workload(profile.frontend.generated_share, seed), profile, run.config)


def measured(folder: Path, values: Row, profile: Profile, seed: int = 0) -> Row:
    """The row with figures that a server of this profile would have."""
    [run] = serving_runs(folder, values)
    found = simulated(run, profile, seed)
    seen, figures = observe(found, profile.frontend), summarize(found, percentiles=False)
    numbers = {
        "kv_tokens": served_capacity(profile, run.config).tokens,
        "completed": figures.completed,
        "output_tokens": figures.output_throughput * run.window_s,
        "input_throughput": figures.input_throughput,
        "output_throughput": figures.output_throughput,
        "ttft_mean_ms": seen.ttft_mean_s * 1e3,
        "ttft_median_ms": seen.ttft_median_s * 1e3,
        "tpot_mean_ms": seen.tpot_mean_s * 1e3,
        "itl_mean_ms": seen.itl_mean_s * 1e3,
        "running_mean": figures.running_mean,
        "waiting_mean": figures.waiting_mean,
        "kv_usage_mean": figures.kv_usage_mean,
    }
    return {**values, **{column: repr(value) for column, value in numbers.items()}}


def by_hand(values: Row, total: float, **figures: float) -> Row:
    """The row with figures given: half of the throughput is input, and no queue unless said."""
    halves = {"input_throughput": total / 2, "output_throughput": total / 2, "waiting_mean": 0.0, "completed": 100.0}
    return {**values, **{column: repr(value) for column, value in {**halves, **figures}.items()}}
