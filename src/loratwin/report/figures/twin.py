"""Figures of arXiv 2508.08343 that the twin takes part in: motivation, loading, accuracy, models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loratwin.calibrate.published.serving import profile_for
from loratwin.calibrate.published.tables import number
from loratwin.metrics import summarize
from loratwin.perf import load_profile
from loratwin.report.charts import Chart, ChartSeries, Panel
from loratwin.report.figures.adapters import GRID
from loratwin.report.figures.source import Made, Source, figures_table
from loratwin.report.validation import advice_table, score_table, verdict_table
from loratwin.simulate import server_configs, simulate
from loratwin.validate.decisions import Decision, decide_all
from loratwin.validate.predict import Prediction
from loratwin.validate.scores import (
    measured_value,
    regime,
    score,
    score_advice,
    start_verdicts,
    starved_verdicts,
)
from loratwin.workload import draw, parse_spec

PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"

SHORT, MEAN, LONG = (23, 27), (250, 231), (423, 358)
"""Tokens of prompt and output: percentiles 25 and 75, and means, of the ShareGPT set (as published)."""

ADAPTERS = (8, 16, 32, 64, 96, 128, 192, 256, 320, 384)
WINDOW_S = 1800.0


def motivation(source: Source) -> Made:
    """Throughput against served adapters: slots, rates, ranks and lengths, one at a time; simulated."""
    usual: dict[str, Any] = {"slots": 64, "rate": 0.05, "rank": 8, "lengths": MEAN}
    varied: list[tuple[str, str, Sequence[Any]]] = [
        ("slots", "slots", (16, 32, 64, 128)),
        ("rate", "requests/s of an adapter", (0.025, 0.05, 0.1)),
        ("rank", "rank", (8, 16, 32)),
        ("lengths", "prompt + output tokens", (SHORT, MEAN, LONG)),
    ]
    panels, done, of = [], 0, sum(len(values) for _, _, values in varied)
    for key, what, values in varied:
        series = []
        for index, value in enumerate(values):
            source.progress("simulating throughput by adapters", done, of)
            series += _curve(_named(key, value), index, **usual | {key: value})
            done += 1
        panels.append(Panel(f"by {what}", "served adapters", "tokens/s", series))
    source.progress("simulating throughput by adapters", of, of)
    notes = [
        "Usual: 64 slots (or one for each adapter), 0.05 requests/s, rank 8, 250 + 231 tokens; half an hour. "
        "A curve ends where the server does not start. Dotted: what was asked for.",
    ]
    return Made(
        [Chart("motivation", f"Throughput against served adapters, simulated ({PROFILE})", panels, 2, 3.4)], notes=notes
    )


def _named(key: str, value: Any) -> str:
    return f"{value[0]} + {value[1]}" if key == "lengths" else f"{value:g} {'slots' if key == 'slots' else ''}".strip()


def _curve(name: str, index: int, slots: int, rate: float, rank: int, lengths: tuple[int, int]) -> list[ChartSeries]:
    profile = load_profile(PROFILE)
    xs, ys, asked = [], [], []
    for count in ADAPTERS:
        spec = parse_spec(
            {
                "window_s": WINDOW_S,
                "lengths": {"kind": "sharegpt", "prompt_mean": lengths[0], "output_mean": lengths[1]},
                "groups": [{"name": "a", "count": count, "ranks": rank, "rate": rate}],
            }
        )
        (config,) = server_configs(spec, profile, [min(slots, count)], max_num_seqs=2048, max_num_batched_tokens=2048)
        figures = try_run(spec, profile, config)
        if figures is None:
            break
        xs.append(float(count))
        ys.append(figures)
        asked.append(count * rate * sum(lengths))
    top = max(ys, default=0.0)
    dotted = [(x, y) for x, y in zip(xs, asked, strict=True) if y <= 1.3 * top]
    return [
        ChartSeries(name, xs, ys, "line", colour=index),
        ChartSeries("", [x for x, _ in dotted], [y for _, y in dotted], "limit", colour=index),
    ]


def try_run(spec: Any, profile: Any, config: Any) -> float | None:
    """Tokens per second of a simulated run; None: the server does not start."""
    from loratwin.errors import CapacityError

    try:
        return summarize(simulate(draw(spec), profile, config), percentiles=False).total_throughput
    except CapacityError:
        return None


def loading(source: Source) -> Made:
    """Time to load an adapter as a part of a request's latency on an idle server."""
    rows = source.table("adapter_loading.csv", "model", "adapter_rank", "max_lora_rank")
    panels = []
    for llm in dict.fromkeys(row["model"] for row in rows):
        mine = {int(number(row, "adapter_rank")): row for row in rows if row["model"] == llm and _own_rank(row)}
        ranks = sorted(mine)
        series = []
        for index, (name, lengths) in enumerate((("short", SHORT), ("mean", MEAN), ("long", LONG))):
            for place, (from_, column) in enumerate(
                (("disk", "disk_load_mean_ms"), ("host memory", "gpu_load_mean_ms"))
            ):
                share = [100 * number(mine[r], column) / _alone_ms(llm, r, lengths) for r in ranks]
                series.append(
                    ChartSeries(
                        f"{name}, from {from_}", list(range(len(ranks))), share, "bars", colour=2 * index + place
                    )
                )
        panels.append(Panel(llm, "rank", "% of the latency", series, [str(rank) for rank in ranks]))
    notes = [
        "Loading was measured; the latency of a request alone on the server (23 + 27, 250 + 231, 423 + 358 tokens) is "
        "simulated. Published for Llama-2-7B on an older vLLM.",
    ]
    return Made([Chart("loading", "Loading an adapter / latency of a request", panels, 2, 3.4, True)], notes=notes)


def _own_rank(row: Any) -> bool:
    return number(row, "adapter_rank") == number(row, "max_lora_rank")


def _alone_ms(llm: str, rank: int, lengths: tuple[int, int]) -> float:
    """Latency of a request that is alone, its adapter in its slot."""
    prompt, output = ({"kind": "fixed", "tokens": tokens} for tokens in lengths)
    group = {"name": "a", "count": 1, "ranks": rank, "arrivals": {"kind": "at_once", "requests": 1}}
    spec = parse_spec({"window_s": 60, "lengths": {"prompt": prompt, "output": output}, "groups": [group]})
    (config,) = server_configs(spec, profile_for(llm), [1])
    run = simulate(draw(spec), profile_for(llm), config)
    return 1e3 * float(run.requests.finish_s[0] - run.requests.arrival_s[0])


ACCURACY = (
    ("total_throughput", "throughput", "tokens/s"),
    ("itl_mean_ms", "ITL, mean", "ms"),
    ("ttft_mean_ms", "TTFT, mean", "ms"),
)


def accuracy(source: Source) -> Made:
    """The twin beside measurement, with its errors, and the published twin's on the same runs."""
    runs = source.serving("serving_validation.csv")
    predictions = source.predicted(runs, "simulating the validation runs")
    panels = []
    for metric, what, unit in ACCURACY:
        series = []
        for index, name in enumerate(("open", "saturated")):
            pairs = [
                (measured_value(run, metric), getattr(p, metric))
                for run, p in zip(runs, predictions, strict=True)
                if run.measured and regime(run) == name
            ]
            kept = [(x, y) for x, y in pairs if x > 0 and y > 0]
            series.append(ChartSeries(name, [x for x, _ in kept], [y for _, y in kept], "points", colour=index))
        ends = [min(x for s in series for x in s.x), max(x for s in series for x in s.x)]
        series.append(ChartSeries("the same", ends, ends, "limit", colour=7))
        panels.append(Panel(what, f"measured, {unit}", f"twin, {unit}", series, log="xy"))
    tables = [
        figures_table("twin-errors", "Errors of the twin", *score_table(score(runs, predictions))),
        figures_table(
            "twin-verdicts",
            "Starved, and starts",
            *verdict_table(starved_verdicts(runs, predictions), start_verdicts(runs, predictions)),
        ),
    ]
    notes = [
        "By the shipped profiles, which were fitted to these runs; errors on runs that were held out: "
        "loratwin validate report.",
    ]
    published = _published(source, runs)
    if published:
        tables.append(
            figures_table("published-twin-errors", "Errors of the published twin on the same runs", *published)
        )
    return Made([Chart("twin-accuracy", "The twin beside measurement", panels, one_legend=True)], tables, notes)


def _published(source: Source, runs: Sequence[Any]) -> Any:
    name = "serving_validation_reference_twin.csv"
    if source.missing([name]):
        return None
    told = {row["run"]: row for row in source.table(name, "run", "total_throughput", "itl_mean_ms")}
    both = [run for run in runs if run.name in told]
    predictions = [
        Prediction(
            run.name,
            total_throughput=number(told[run.name], "total_throughput"),
            itl_mean_ms=number(told[run.name], "itl_mean_ms"),
            starts=1,
        )
        for run in both
    ]
    return score_table(score(both, predictions, ("total_throughput", "itl_mean_ms")))


def models(source: Source) -> Made:
    """What the shipped learned model and the twin advise on the measured grids, and what that costs."""
    from loratwin.learn.models.model import load_model

    runs = source.serving(GRID)
    by_twin = decide_all(
        runs, processes=source.processes, progress=lambda d, o: source.progress("simulating the grids", d, o)
    )
    by_model = decide_all(runs, learned=load_model(None))
    header, twin_rows = advice_table(score_advice(runs, by_twin))
    _, model_rows = advice_table(score_advice(runs, by_model))
    rows = [["twin", *row] for row in twin_rows] + [["learned model", *row] for row in model_rows]
    answers = [
        [
            " ".join(mine.workload[:1]),
            mine.workload[1],
            mine.question,
            str(mine.served_adapters),
            _point(mine),
            _point(learned),
        ]
        for mine, learned in zip(by_twin, by_model, strict=True)
    ]
    columns = ["LLM", "rates", "question", "adapters asked for", "twin: adapters, slots", "model: adapters, slots"]
    tables = [
        figures_table(
            "advice-errors", "What following the advice costs, against the best measured", ["by", *header], rows
        ),
        figures_table("advice", "Advice for every workload", columns, answers),
    ]
    notes = [
        "joint: adapters and slots for the highest throughput; slots: slots for that with given adapters; "
        "latency: slots for the shortest latency. Regret: what is lost against the best of the measured grid. "
        "Linear models, forests, RuleFit and FIGS side by side: loratwin learn table; rules: loratwin learn rules.",
    ]
    return Made([], tables, notes)


def _point(decision: Decision) -> str:
    return f"{decision.point.served_adapters}, {decision.point.max_loras}" if decision.point is not None else "none"
