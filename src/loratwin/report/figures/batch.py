"""Figures of arXiv 2503.08311: the batch, its knee, phases and kernels, replicas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import isnan

import numpy as np

from loratwin.advise import (
    BatchPoint,
    BatchSweep,
    advise_batch,
    efficiency,
    predict_replicas,
    sweep_twin,
)
from loratwin.advise.text import GIB, fixed_tokens
from loratwin.calibrate.published.tables import Row, number
from loratwin.errors import InputError
from loratwin.kernel import StepCost, StepFeatures, step_time_s
from loratwin.llms import LlmShapes, find_llm
from loratwin.perf import Profile, assume, find_gpu
from loratwin.perf.assume import shipped_references
from loratwin.perf.operations.step import StepSum
from loratwin.perf.operations.tables import operations_of
from loratwin.perf.step_overhead import launch_of
from loratwin.records.run import StepSeries
from loratwin.report.charts import Chart, ChartSeries, Look, Panel
from loratwin.report.figures.source import Made, Source, figures_table
from loratwin.report.tables import Table
from loratwin.simulate import server_configs, simulate
from loratwin.workload import Workload, draw, parse_spec

TABLE = "batch_sweep_and_replication.csv"
GPU, ENGINE = "h100-64gb", "vllm-0.8.5"
REQUESTS = 2000
MOST_LEN = 2048
"""As the published servers: --max-model-len."""

STEP_CONTEXT = 338
"""Tokens of a request in the cache where steps are taken apart: about the mean of the published runs in mid-flight."""


@cache
def assumed(llm: str) -> Profile:
    """The twin of the published servers' LLMs: nothing was fitted to them, and the engine is a later one."""
    return assume(find_gpu(GPU), find_llm(llm, ENGINE), ENGINE)


def burst(source: Source, llm: str) -> Workload:
    """2,000 requests at once, of the published runs' mean lengths."""
    mine = [
        row for row in source.table(TABLE, "model", "completed") if row["model"] == llm and number(row, "completed") > 0
    ]
    lengths = [
        np.mean([number(row, f"total_{way}_tokens") / number(row, "completed") for row in mine])
        for way in ("input", "output")
    ]
    return draw(
        parse_spec(
            {
                "window_s": 30_000,
                "lengths": {"kind": "sharegpt", "prompt_mean": float(lengths[0]), "output_mean": float(lengths[1])},
                "base": {"arrivals": {"kind": "at_once", "requests": REQUESTS}},
            }
        )
    )


def batches(source: Source) -> Made:
    """Throughput, time between tokens and KV use against the batch, measured and simulated, with the knee."""
    twins, lines = {}, []
    for done, sweep in enumerate(source.sweeps):
        source.progress("simulating sweeps of the batch", done, len(source.sweeps))
        tried = [point.batch for point in sweep.points]
        twins[sweep.llm] = sweep_twin(burst(source, sweep.llm), assumed(sweep.llm), tried, max_model_len=MOST_LEN)
    source.progress("simulating sweeps of the batch", len(source.sweeps), len(source.sweeps))
    panels = [
        Panel(f"{sweep.llm}: {what}", "batch (max_num_seqs)", unit, _both(sweep, twins[sweep.llm], value), log="x")
        for what, unit, value in FIGURES
        for sweep in source.sweeps
    ]
    for sweep in source.sweeps:
        lines += [
            _advised(name, one, multiple)
            for name, one in (("measured", sweep), ("twin", twins[sweep.llm]))
            for multiple in (2.0, 4.0)
        ]
    columns = ["LLM", "of", "ITL limit", "batch", "throughput, tokens/s", "of the best, %", "KV cache used, %", "knee"]
    notes = [
        "Dotted: the batch advised with an ITL of at most twice that at batch 32 (epsilon 0.1). Dashed: the twin "
        f"with an assumed profile of a later engine ({ENGINE}); measured: vLLM's first engine.",
    ]
    chart = Chart("batch", "Throughput, latency and KV cache against the batch", panels, len(source.sweeps), 2.9, True)
    return Made([chart], [figures_table("batch-advice", "The batch to run", columns, lines)], notes)


FIGURES: list[tuple[str, str, Callable[[BatchPoint], float]]] = [
    ("throughput", "tokens/s", lambda point: point.throughput),
    ("time between tokens", "ms", lambda point: point.itl_ms),
    ("KV cache in use", "%", lambda point: 100 * point.kv_used),
]


def _looks(sweep: BatchSweep, twin: BatchSweep) -> list[tuple[str, BatchSweep, Look]]:
    return [("measured", sweep, "measured"), ("twin", twin, "simulated")]


def _both(sweep: BatchSweep, twin: BatchSweep, value: Callable[[BatchPoint], float]) -> list[ChartSeries]:
    advised = advise_batch(sweep).point
    series = [
        ChartSeries(
            name, [float(point.batch) for point in one.points], [value(p) for p in one.points], look, colour=index
        )
        for index, (name, one, look) in enumerate(_looks(sweep, twin))
    ]
    if advised is not None:
        top = max(max(each.y) for each in series)
        series.append(ChartSeries("advised", [advised.batch] * 2, [0.0, top], "limit", colour=7))
    return series


def _advised(name: str, sweep: BatchSweep, multiple: float) -> list[str]:
    advice = advise_batch(sweep, multiple=multiple)
    limit = f"{multiple:g} x ITL at 32 = {advice.slo_ms:.1f} ms"
    if advice.point is None:
        return [sweep.llm, name, limit, "none", "", "", "", "yes" if advice.knee else "no"]
    point = advice.point
    return [
        sweep.llm, name, limit, str(point.batch), f"{point.throughput:.0f}", f"{100 * advice.share_of_fastest:.0f}",
        f"{100 * point.kv_used:.0f}", "yes" if advice.knee else "no",
    ]  # fmt: skip


def knees(source: Source) -> Made:
    """Throughput against the KV cache that it takes, and the efficiency of the batch."""
    by_kv, by_batch = [], []
    for index, sweep in enumerate(source.sweeps):
        used, best = [100 * p.kv_used for p in sweep.points], max(p.throughput for p in sweep.points)
        by_kv.append(ChartSeries(sweep.llm, used, [100 * p.throughput / best for p in sweep.points], colour=index))
        sizes = [float(p.batch) for p in sweep.points]
        by_batch.append(ChartSeries(sweep.llm, sizes, [efficiency(sweep, p) for p in sweep.points], colour=index))
    ends = [1.0, max(max(s.x) for s in by_batch)]
    by_batch.append(ChartSeries("epsilon 0.1", ends, [0.1, 0.1], "limit", colour=7))
    panels = [
        Panel("What the KV cache buys", "KV cache in use at most, %", "% of the best throughput", by_kv),
        Panel("Efficiency of the batch", "batch", "T(B) / (B T(1))", by_batch, log="x"),
    ]
    return Made([Chart("knee", "Where more memory buys almost nothing, measured", panels, 2, 3.4)], [_memory(source)])


def _memory(source: Source) -> Table:
    rows = []
    for sweep in source.sweeps:
        llm, advice = find_llm(sweep.llm), advise_batch(sweep)
        kv = sweep.points[0].kv_tokens * llm.kv_bytes_per_token / 1e9
        free = kv * advice.kv_free if advice.knee else 0.0
        whole = find_gpu(GPU).memory_gib * GIB / 1e9
        rows.append(
            [
                sweep.llm,
                f"{llm.weight_bytes_on_gpu(1) / 1e9:.2f}",
                f"{kv:.2f}",
                f"{free:.1f}",
                f"{100 * free / whole:.0f}",
            ]
        )
    columns = [
        "LLM",
        "weights, GB (shapes)",
        "KV cache, GB (measured)",
        "free at the advised batch, GB",
        "of the GPU, %",
    ]
    return figures_table("memory-split", "Where the memory goes, and what the advised batch leaves free", columns, rows)


def phases(source: Source) -> Made:
    """Prompts and decoding: their part of the time; simulated."""
    panels = []
    chosen = [sweep for sweep in source.sweeps]
    for done, sweep in enumerate(chosen):
        source.progress("simulating phases", done, len(chosen))
        tried = [p.batch for p in sweep.points if p.batch in (1, 4, 16, 32, 64, 128, 256, 512)]
        shares = [_prefill_share(source, sweep.llm, batch) for batch in tried]
        places = [float(i) for i in range(len(tried))]
        series = [
            ChartSeries("prompts (prefill)", places, [100 * share for share in shares], "stack", colour=1),
            ChartSeries("decode", places, [100 * (1 - share) for share in shares], "stack", colour=0),
        ]
        panels.append(Panel(sweep.llm, "batch", "% of the time", series, [str(batch) for batch in tried]))
    source.progress("simulating phases", len(chosen), len(chosen))
    notes = ["Of a step that also decodes, prompts have what it takes longer than without them."]
    return Made([Chart("phases", "Time by phase against the batch, simulated", panels, 2, 2.9, True)], notes=notes)


def _prefill_share(source: Source, llm: str, batch: int) -> float:
    profile, workload = assumed(llm), burst(source, llm)
    (config,) = server_configs(workload, profile, max_num_seqs=batch, max_model_len=MOST_LEN)
    steps = simulate(workload, profile, config).steps
    assert steps is not None
    cost = profile.step_time.resolve(0, config.max_lora_rank, profile.behaviour, config.max_num_seqs)
    with_prompts = np.flatnonzero(steps.prefill_tokens)
    decoding = sum(_decoding_s(cost, steps, int(i)) for i in with_prompts)
    return float((steps.duration_s[with_prompts].sum() - decoding) / steps.duration_s.sum())


def _decoding_s(cost: StepCost, steps: StepSeries, i: int) -> float:
    """What a step would take without its prompts."""
    number = int(steps.decode_requests[i])
    assert steps.decode_context is not None
    nothing = dict.fromkeys(StepFeatures._fields, 0)
    of = {"decode_requests": number, "running": number, "decode_context": int(steps.decode_context[i])}
    return step_time_s(cost, StepFeatures(**nothing | of)) if number else 0.0


def kernel_shares(source: Source) -> Made:
    """What a decode step consists of, by the sum of measured operations."""
    panels = []
    for sweep in source.sweeps:
        sizes = [p.batch for p in sweep.points if p.batch in (1, 8, 32, 64, 128, 256, 512)]
        parts = {name: [] for name in _parts(find_llm(sweep.llm), 1)}  # type: dict[str, list[float]]
        for batch in sizes:
            seconds_of = _parts(find_llm(sweep.llm), batch)
            whole = sum(seconds_of.values())
            for name, seconds in seconds_of.items():
                parts[name].append(100 * seconds / whole)
        places = [float(i) for i in range(len(sizes))]
        series = [
            ChartSeries(name, places, shares, "stack", colour=i) for i, (name, shares) in enumerate(parts.items())
        ]
        panels.append(Panel(sweep.llm, "batch", "% of a step", series, [str(batch) for batch in sizes]))
    notes = [
        f"Steps of requests with {STEP_CONTEXT} tokens in the cache; operations as measured on an H100, launches and "
        f"host as learned from fitted profiles of {ENGINE}. No profile of a GPU: loratwin report kernels shows one.",
    ]
    return Made(
        [Chart("step-parts", "Parts of a decode step against the batch, computed", panels, 2, 2.9, True)], notes=notes
    )


def _parts(llm: LlmShapes, batch: int) -> dict[str, float]:
    """Seconds of a decode step."""
    launch = launch_of(ENGINE, shipped_references())
    of = StepSum(operations_of(find_gpu(GPU)), llm, 1, 0.0)
    requests, context = np.array([float(batch)]), np.array([float(STEP_CONTEXT)])
    return {
        "attention": float(of.decode_s(requests, context)[0]),
        "matmul": float(of.dense_s(requests)[0]),
        "logits and sampling": float(of.head_s(requests)[0]),
        "small kernels, launches": llm.num_layers * launch.layer_s,
        "host": launch.step_s + launch.request_s * batch,
    }


def roofline(source: Source) -> Made:
    """Attention and products of matrices of decode steps, by batch, on the GPU's data sheet; computed."""
    gpu = find_gpu(GPU)
    corner = gpu.flops / gpu.memory_bytes_per_s
    sizes = (1, 8, 32, 128, 512)
    panels = []
    for sweep in source.sweeps:
        llm = find_llm(sweep.llm)
        points = [_intensities(llm, batch) for batch in sizes]
        ends = [0.5, corner, 4 * corner]
        roof = [min(gpu.flops, gpu.memory_bytes_per_s * at) / 1e12 for at in ends]
        series = [ChartSeries("data sheet", ends, roof, "line", colour=7)]
        for index, name in enumerate(("attention", "matmul")):
            series.append(
                ChartSeries(name, [p[name][0] for p in points], [p[name][1] for p in points], "points", colour=index)
            )
        panels.append(Panel(sweep.llm, "operations/byte", "TFLOP/s", series, log="xy"))
    notes = [
        f"Batches {', '.join(map(str, sizes))} from left to right; {STEP_CONTEXT} tokens in the cache of each request. "
        "Operations and bytes from the LLM's shapes, times from tables of measured operations.",
    ]
    return Made(
        [Chart("roofline-computed", f"Roofline of {GPU}: decode steps, computed", panels, 2, 3.3, True)], notes=notes
    )


def _intensities(llm: LlmShapes, batch: int) -> dict[str, tuple[float, float]]:
    """Operations per byte, and 1e12 operations per second."""
    seconds = _parts(llm, batch)
    numbers = sum(each.times * each.used * each.n * each.k for each in llm.products(1)[:-1])
    moved = llm.dtype_bytes * numbers
    read = batch * STEP_CONTEXT * llm.kv_bytes_per_token
    heads = llm.num_heads * llm.head_dim * llm.num_layers
    work = {"attention": (4.0 * batch * STEP_CONTEXT * heads, read), "matmul": (2.0 * batch * numbers, moved)}
    return {name: (done / bytes_, done / seconds[name] / 1e12) for name, (done, bytes_) in work.items()}


def replication(source: Source) -> Made:
    """One, two and four replicas: measured, and predicted from the sweep of one."""
    rows = [
        row
        for row in source.table(TABLE, "run", "model")
        if row["run"].startswith("replication/") and row["chunked"] != "True"
    ]
    sweeps = {sweep.llm: sweep for sweep in source.sweeps}
    panels, lines = [], []
    for llm in dict.fromkeys(row["model"] for row in rows):
        mine = sorted((row for row in rows if row["model"] == llm), key=_place)
        ticks = [f"{_batch(row)} x {_replicas(row)}" for row in mine]
        predicted = [_predicted(sweeps[llm], row) for row in mine]
        places = [float(i) for i in range(len(mine))]
        for what, unit, column, index in (
            ("throughput", "tokens/s", "total_token_throughput", 0),
            ("time between tokens", "ms", "mean_itl_ms", 1),
        ):
            said = [each[index] for each in predicted]
            series = [
                ChartSeries("measured", places, [number(row, column) for row in mine], "bars", colour=2),
                ChartSeries("predicted", places, said, "bars", colour=0),
            ]
            panels.append(Panel(f"{llm}: {what}", "batch x replicas", unit, series, ticks))
        lines += [_line(row, each, mine) for row, each in zip(mine, predicted, strict=True)]
    columns = [
        "LLM",
        "batch",
        "replicas",
        "tokens/s",
        "predicted",
        "ITL, ms",
        "predicted ",
        "KV cache used, %",
        "GPU busy, %",
        "against the largest batch alone, %",
    ]
    notes = [
        "With NVIDIA MPS. Predicted from the sweep of one server by the machine repairman's model "
        "(loratwin advise replicas)."
    ]
    chart = Chart("replication", "Replicas on one GPU", panels, 2, 3.0, True)
    return Made([chart], [figures_table("replication-table", "Replicas on one GPU", columns, lines)], notes)


def _place(row: Row) -> tuple[int, int]:
    return _batch(row), _replicas(row)


def _batch(row: Row) -> int:
    return int(number(row, "max_num_seqs"))


def _replicas(row: Row) -> int:
    return int(row["run"].rsplit("__", 1)[1])


def _predicted(sweep: BatchSweep, row: Row) -> tuple[float, float]:
    """Throughput and ITL; NaN where the sweep has no such batch."""
    try:
        found = predict_replicas(sweep, _batch(row), _replicas(row), fixed_tokens(find_llm(sweep.llm)), REQUESTS)
    except InputError:
        return float("nan"), float("nan")
    return found.throughput, found.itl_ms


def _line(row: Row, predicted: tuple[float, float], rows: Sequence[Row]) -> list[str]:
    largest = max((each for each in rows if _replicas(each) == 1), key=_batch)
    gain = 100 * (number(row, "total_token_throughput") / number(largest, "total_token_throughput") - 1)
    used = [number(row, f"kv_usage_max_{i}") for i in range(_replicas(row))]
    return [
        row["model"], str(_batch(row)), str(_replicas(row)), f"{number(row, 'total_token_throughput'):.0f}",
        "" if isnan(predicted[0]) else f"{predicted[0]:.0f}", f"{number(row, 'mean_itl_ms'):.1f}",
        "" if isnan(predicted[1]) else f"{predicted[1]:.1f}", f"{100 * max(used):.0f}",
        f"{number(row, 'gpu_util_mean'):.0f}", f"{gain:.1f}",
    ]  # fmt: skip
