"""The same figures of the user's own records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loratwin.advise import BatchSweep, advise_batch, sweep_of_runs
from loratwin.errors import InputError
from loratwin.gpu_traces import by_class, by_kernel
from loratwin.metrics import Summary, summarize
from loratwin.perf import load_profile
from loratwin.records import Run
from loratwin.report.charts import Chart, ChartSeries, Panel
from loratwin.report.figures.batch import FIGURES
from loratwin.report.figures.source import Made, Source, figures_table
from loratwin.report.kernels import KernelReport, kernel_charts, kernel_tables
from loratwin.report.twin import twin_of


def own_batches(source: Source) -> Made:
    """Throughput, latency and KV use against `max_num_seqs`."""
    sweep = sweep_of_runs(_one_for_each(source.records, lambda run: run.config.max_num_seqs))
    xs = [float(point.batch) for point in sweep.points]
    panels = [
        Panel(what, "batch (max_num_seqs)", unit, [ChartSeries("", xs, [value(p) for p in sweep.points])], log="x")
        for what, unit, value in FIGURES
    ]
    return Made(
        [Chart("own-batch", f"Throughput, latency and KV cache against the batch, {sweep.llm}", panels)],
        notes=_advice(sweep),
    )


def _advice(sweep: BatchSweep) -> list[str]:
    from loratwin.advise.text import batch_text

    try:
        return batch_text(advise_batch(sweep), None)
    except InputError as error:
        return [f"no batch is advised: {error}"]


def _one_for_each(runs: dict[str, Run], key: Callable[[Run], int]) -> dict[str, Run]:
    """Of measured runs the first of each value."""
    chosen: dict[int, tuple[str, Run]] = {}
    for name, run in runs.items():
        if run.kind == "measured" or all(each.kind != "measured" for each in runs.values()):
            chosen.setdefault(key(run), (name, run))
    return dict(chosen.values())


def own_adapters(source: Source) -> Made:
    """Throughput and time between tokens against served adapters, a series for each number of slots."""
    rows = [(run, summarize(run, percentiles=False)) for run in source.records.values()]
    if len({len(run.adapters) for run, _ in rows}) < 2:
        raise InputError("the records are all of one number of adapters")
    figures: list[tuple[str, str, Callable[[Summary], float]]] = [
        ("throughput", "tokens/s", lambda s: s.total_throughput),
        ("time between tokens", "ms", lambda s: s.itl_mean_ms),
    ]
    panels = []
    for what, unit, value in figures:
        series = []
        for index, slots in enumerate(sorted({run.config.max_loras for run, _ in rows})):
            mine = sorted((len(run.adapters), value(s)) for run, s in rows if run.config.max_loras == slots)
            series.append(
                ChartSeries(f"{slots} slots", [float(x) for x, _ in mine], [y for _, y in mine], colour=index)
            )
        panels.append(Panel(what, "served adapters", unit, series))
    return Made([Chart("own-adapters", "Throughput and latency against served adapters", panels, 2, 3.3, True)])


def own_twin(source: Source) -> Made:
    """The twin beside each measured record."""
    if source.profile is None:
        raise InputError("no twin to compare with: name it with --profile")
    profile = load_profile(source.profile)
    measured = {name: run for name, run in source.records.items() if run.kind == "measured"}
    if not measured:
        raise InputError("no record is of a measured run")
    lines, pairs = [], []
    for done, (name, run) in enumerate(measured.items()):
        source.progress("simulating own runs", done, len(measured))
        mine, said = (summarize(each, percentiles=False) for each in (run, twin_of(run, profile)))
        pairs.append((mine, said))
        lines.append(
            [
                Path(name).stem,
                *(text for field, _, _ in _COMPARED for text in _beside(getattr(mine, field), getattr(said, field))),
            ]
        )
    source.progress("simulating own runs", len(measured), len(measured))
    panels = []
    for field, what, unit in _COMPARED:
        xs, ys = ([float(getattr(each[i], field)) for each in pairs] for i in (0, 1))
        ends = [min(xs), max(xs)]
        series = [ChartSeries("runs", xs, ys, "points"), ChartSeries("the same", ends, ends, "limit", colour=7)]
        panels.append(Panel(what, f"measured, {unit}", f"twin, {unit}", series, log="xy"))
    columns = ["run", *(head for _, what, _ in _COMPARED for head in (what, f"{what}: twin", f"{what}: off, %"))]
    chart = Chart("own-twin", f"The twin beside measurement ({source.profile})", panels, one_legend=True)
    return Made([chart], [figures_table("own-twin-table", "The twin beside measurement", columns, lines)])


_COMPARED = (
    ("total_throughput", "throughput", "tokens/s"),
    ("itl_mean_ms", "ITL, mean", "ms"),
    ("ttft_mean_ms", "TTFT, mean", "ms"),
)


def _beside(measured: float, said: float) -> list[str]:
    off = 100 * (said / measured - 1) if measured > 0 else float("nan")
    return [f"{measured:.4g}", f"{said:.4g}", f"{off:+.1f}"]


def own_kernels(source: Source) -> Made:
    """Kernels of the user's own GPU profiles: shares by batch, roofline, stalls and caches."""
    from loratwin.report.kernels import gpu_of

    traces = tuple(source.gpu_profiles)
    report = KernelReport(traces, by_class(traces), by_kernel(traces), gpu_of(traces, None))
    return Made(kernel_charts(report), kernel_tables(report))
