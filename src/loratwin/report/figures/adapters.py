"""Figures of arXiv 2508.08343 from measured tables: overheads of adapters, throughput by slots and adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from loratwin.calibrate.published.serving import ServingRun
from loratwin.calibrate.published.tables import Row, number
from loratwin.report.charts import Chart, ChartSeries, Panel
from loratwin.report.figures.source import Made, Source
from loratwin.validate.predict import offered_tokens_per_s
from loratwin.validate.scores import measured_value

LENGTHS = {"p25": "short requests (25th percentile)", "mean": "mean requests", "p75": "long requests (75th percentile)"}
"""Of the ShareGPT set, by the tables' names."""

OVERHEADS = "llama2_7b_overheads.csv"
GRID = "serving_optimum.csv"


def memory_overhead(source: Source) -> Made:
    """Throughput, batch and KV cache against loaded adapters."""
    rows = [row for row in source.table(OVERHEADS, "group") if row["group"] == "memory_overhead"]
    figures: list[tuple[str, str, Callable[[Row], float]]] = [
        ("throughput", "tokens/s", _throughput),
        ("running requests", "mean", lambda row: number(row, "running_mean")),
        ("KV cache", "tokens", lambda row: number(row, "kv_tokens")),
    ]
    panels = [
        Panel(
            f"{LENGTHS[lengths].split(' (')[0]}: {what}",
            "adapter slots",
            unit,
            _by_rank(rows, lengths, "max_loras", value),
        )
        for lengths in LENGTHS
        for what, unit, value in figures
    ]
    return Made([Chart("memory-overhead", "Slots take memory from the KV cache (Llama-2-7B)", panels, one_legend=True)])


def compute_overhead(source: Source) -> Made:
    """Throughput and time between tokens against the adapters in use, slots the same."""
    rows = [row for row in source.table(OVERHEADS, "group") if row["group"] == "compute_overhead"]
    figures: list[tuple[str, str, Callable[[Row], float]]] = [
        ("throughput", "tokens/s", _throughput),
        ("time between tokens", "ms", lambda row: number(row, "itl_mean_ms")),
    ]
    panels = [
        Panel(
            f"{LENGTHS[lengths].split(' (')[0]}: {what}",
            "adapters in use",
            unit,
            _by_rank(rows, lengths, "adapters_used", value),
        )
        for what, unit, value in figures
        for lengths in LENGTHS
    ]
    notes = ["0 adapters in use: the same server, all requests to the base LLM."]
    return Made(
        [Chart("compute-overhead", "Distinct adapters take time (Llama-2-7B)", panels, one_legend=True)], notes=notes
    )


def _throughput(row: Row) -> float:
    return number(row, "input_throughput") + number(row, "output_throughput")


def _by_rank(rows: Sequence[Row], lengths: str, axis: str, value: Callable[[Row], float]) -> list[ChartSeries]:
    """A series for each rank; runs that failed have no point."""
    series = []
    for index, rank in enumerate((8, 16, 32)):
        points = sorted(
            (number(row, axis), value(row))
            for row in rows
            if row["dataset"] == lengths and number(row, "max_lora_rank") == rank and row["outcome"] == "ok"
        )
        points = [(x, y) for x, y in points if x == x and y == y]
        series.append(ChartSeries(f"rank {rank}", [x for x, _ in points], [y for _, y in points], colour=index))
    return series


def measured_grid(source: Source) -> Made:
    """Throughput against served adapters, a series for each number of slots; a chart for each LLM."""
    runs = source.serving(GRID)
    charts = []
    for llm in dict.fromkeys(run.model for run in runs):
        groups = dict.fromkeys(run.rates for run in runs if run.model == llm)
        panels = [
            _grid_panel([run for run in runs if run.model == llm and run.rates == rates], rates) for rates in groups
        ]
        charts.append(
            Chart(f"throughput-by-adapters-{llm}", f"Throughput against served adapters, {llm}", panels, 2, 3.4, True)
        )
    notes = ["A dotted line: what was asked for. Where a curve leaves it, requests starve."]
    return Made(charts, notes=notes)


def _grid_panel(runs: Sequence[ServingRun], rates: str) -> Panel:
    slots = sorted({run.max_loras for run in runs})
    series = []
    for index, count in enumerate(slots):
        points = sorted(
            (run.served_adapters, measured_value(run, "total_throughput"))
            for run in runs
            if run.max_loras == count and run.measured
        )
        if points:
            series.append(ChartSeries(f"{count} slots", *_columns(points), colour=index))
    asked = sorted({run.served_adapters: offered_tokens_per_s(run) for run in runs if run.has_workload}.items())
    top = 1.15 * max((y for each in series for y in each.y), default=1.0)
    asked = [(x, y) for x, y in asked if y <= 1.3 * top]
    series.append(ChartSeries("asked for", *_columns(asked), "limit", colour=7))
    return Panel(f"rates {rates} /s", "served adapters", "tokens/s", series)


def _columns(points: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    pairs = list(points)
    return [float(x) for x, _ in pairs], [float(y) for _, y in pairs]


def kv_capacity(source: Source) -> Made:
    """Size of the KV cache against slots: as servers told it, and as the shipped profiles say."""
    from loratwin.calibrate.published.serving import profile_for
    from loratwin.records import EngineConfig
    from loratwin.simulate import served_capacity

    rows = [row for row in source.table("kv_capacity.csv", "model", "kv_tokens") if row["outcome"] == "ok"]
    panels = []
    for llm in dict.fromkeys(row["model"] for row in rows):
        series = []
        for index, rank in enumerate((8, 16, 32)):
            mine = sorted(
                (int(number(row, "max_loras")), number(row, "kv_tokens"))
                for row in rows
                if row["model"] == llm and number(row, "max_lora_rank") == rank
            )
            server: dict[str, Any] = {"max_lora_rank": rank, "max_num_seqs": 2048, "max_num_batched_tokens": 2048}
            twin = [served_capacity(profile_for(llm), EngineConfig(max_loras=n, **server)).tokens for n, _ in mine]
            series.append(ChartSeries(f"rank {rank}, measured", *_columns(mine), "points", colour=index))
            series.append(ChartSeries(f"rank {rank}, twin", [n for n, _ in mine], twin, "simulated", colour=index))
        panels.append(Panel(llm, "adapter slots", "KV tokens", series))
    return Made([Chart("kv-capacity", "KV cache against slots", panels, 2, 3.4, True)])


def step_times(source: Source) -> Made:
    """Decode steps against the batch without adapters: the scheduler's log, and the twin's formula."""
    from loratwin.calibrate.published.serving import profile_for
    from loratwin.kernel import StepFeatures, step_time_s

    rows = [row for row in source.table("backbone_latency.csv", "model", "kind") if row["kind"] == "output"]
    panels = []
    for llm in dict.fromkeys(row["model"] for row in rows):
        lengths = sorted({int(number(row, "output_tokens")) for row in rows if row["model"] == llm})
        cost = profile_for(llm).step_time.resolve(0, 8)
        series = []
        for index, length in enumerate(lengths):
            mine = sorted(
                (number(row, "mean_running"), number(row, "step_mean_ms"))
                for row in rows
                if row["model"] == llm and number(row, "output_tokens") == length and number(row, "step_mean_ms") > 0
            )
            twin = []
            for batch, _ in mine:
                nothing = dict.fromkeys(StepFeatures._fields, 0)
                of = {
                    "decode_requests": round(batch),
                    "running": round(batch),
                    "decode_context": round(batch * length / 2),
                }
                twin.append(1e3 * step_time_s(cost, StepFeatures(**nothing | of)))
            series.append(ChartSeries(f"{length} tokens out, measured", *_columns(mine), "points", colour=index))
            series.append(
                ChartSeries(f"{length} tokens out, twin", [b for b, _ in mine], twin, "simulated", colour=index)
            )
        panels.append(Panel(llm, "running requests", "ms a step", series))
    notes = ["The twin's line: steps that only decode, half the output in the cache; the profiles know these runs."]
    return Made(
        [Chart("step-times", "Time of a step against the batch, no adapters", panels, 2, 3.6, True)], notes=notes
    )
