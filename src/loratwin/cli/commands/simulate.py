"""`loratwin simulate`: a workload on one or more configurations of a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loratwin.errors import CapacityError, InputError

if TYPE_CHECKING:
    from loratwin.cli.simulation.report import Column, Report
    from loratwin.perf import Profile
    from loratwin.records import EngineConfig
    from loratwin.workload import WorkloadSpec


def simulate(
    workload: Annotated[str, typer.Argument(help="Workload file, or example:NAME.")],
    profile: Annotated[str, typer.Option(help="Profile (GPU/engine/LLM, see `loratwin profiles list`) or its file.")],
    max_loras: Annotated[
        list[str] | None,
        typer.Option(help="Slots; several (8,16,32, or repeated) are compared. Default: one for each adapter."),
    ] = None,
    max_cpu_loras: Annotated[int | None, typer.Option(help="Adapters kept in host memory. Default: all.")] = None,
    max_lora_rank: Annotated[
        int | None, typer.Option(help="Rank of the slots. Default: the smallest allowed that holds every adapter.")
    ] = None,
    max_num_seqs: Annotated[int, typer.Option(help="Requests in a batch.")] = 256,
    max_num_batched_tokens: Annotated[int, typer.Option(help="Tokens in a step.")] = 2048,
    max_model_len: Annotated[int | None, typer.Option(help="Longest prompt + output. Default: the LLM's.")] = None,
    gpu_memory_utilization: Annotated[
        float | None,
        typer.Option(help="Share of the GPU's memory to fill. Default: that of the profile's vLLM, 0.9 or 0.92."),
    ] = None,
    max_in_flight: Annotated[
        int | None,
        typer.Option(help="Requests waiting or running beyond which arrivals are refused. Default: no limit."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the (first) run.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Runs with different seeds; more than one: means ± 95 %.")] = 1,
    intervals: Annotated[
        bool,
        typer.Option("--intervals", help="Show where a real run's figures will lie, 90 % of the time (10 runs more)."),
    ] = False,
    slo: Annotated[str | None, typer.Option(help="Limits to check, as ttft_p99=2s,tpot_p99=100ms.")] = None,
    adapters: Annotated[bool, typer.Option("--adapters", help="Show each adapter (first seed).")] = False,
    series: Annotated[
        bool, typer.Option("--series", help="Show the course over time (first seed), and keep it in the record.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write the run to .json or .parquet, or all runs to a folder.", metavar="PATH"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON instead of a table.")] = False,
) -> None:
    """Simulate a workload on a server, or on several that differ in their slots.

    For example: loratwin simulate example:support-desk --profile h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct
    --max-loras 16,32,64
    """
    from loratwin.cli.progress import announce_compilation
    from loratwin.cli.simulation.output import RunOutput
    from loratwin.cli.simulation.report import Report, simulate_all
    from loratwin.metrics import parse_slo
    from loratwin.perf import load_profile
    from loratwin.workload import load_spec

    spec, performance = load_spec(workload), load_profile(profile)
    limits = parse_slo(slo) if slo is not None else None
    given: dict[str, Any] = {
        "max_cpu_loras": max_cpu_loras,
        "max_lora_rank": _rank_for(spec) if max_lora_rank is None else max_lora_rank,
        "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": max_num_batched_tokens,
        "max_model_len": max_model_len,
        "gpu_memory_utilization": (
            performance.gpu_memory_utilization if gpu_memory_utilization is None else gpu_memory_utilization
        ),
        "max_in_flight": max_in_flight,
    }
    configs = _configs(_slots(max_loras, spec), given)
    all_seeds = range(seed, seed + seeds)
    files = RunOutput(output, len(configs) * seeds)
    announce_compilation()
    with _progress(len(configs) * seeds) as progress:
        columns = simulate_all(
            spec, performance, configs, all_seeds, limits, keep_first=adapters or series,
            each=partial(files.add, series), progress=progress,
        )  # fmt: skip
    if intervals:
        columns = _with_forecasts(columns, spec, performance)
    report = Report(workload, spec, performance, tuple(all_seeds), limits, columns, adapters, series)
    _refuse_if_none_starts(report)
    written = files.write()
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2, allow_nan=False))
    else:
        _print(report)
    for path in written:
        typer.echo(f"written: {path}", err=as_json)


def _with_forecasts(columns: list[Column], spec: WorkloadSpec, profile: Profile) -> list[Column]:
    from dataclasses import replace

    from loratwin.simulate import predict_interval

    def of(column: Column) -> Column:
        found = None if column.reason else predict_interval(spec, profile, column.config, range(10))
        return replace(column, forecast=found)

    return [of(column) for column in columns]


def _print(report: Report) -> None:
    from loratwin.cli.simulation.table import print_report

    print_report(report)


@contextmanager
def _progress(num_runs: int) -> Iterator[Any]:
    """A bar when there is more than one run to wait for."""
    from loratwin.cli.progress import staged_progress

    if num_runs == 1 or not sys.stderr.isatty():
        yield lambda done: None
        return
    with staged_progress() as report:
        yield lambda done: report("simulating", done, num_runs)


def _slots(given: list[str] | None, spec: WorkloadSpec) -> list[int]:
    """`--max-loras 8,16 --max-loras 32` as numbers, each once, in the order given."""
    if given is None:
        return [spec.num_adapters]
    words = [word.strip() for item in given for word in item.split(",")]
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise InputError(f"--max-loras {word!r}: expected whole numbers, as 16 or 8,16,32")
    return list(dict.fromkeys(int(word) for word in words))


def _rank_for(spec: WorkloadSpec) -> int:
    """The smallest rank that vLLM accepts and that holds every adapter."""
    from loratwin.records.config import ranks_that_hold
    from loratwin.workload.popularity import rank_list

    return ranks_that_hold(max((int(rank_list(group.ranks, group.count).max()) for group in spec.groups), default=1))[0]


def _configs(slots: list[int], given: dict[str, Any]) -> list[EngineConfig]:
    from loratwin.records import EngineConfig

    return [EngineConfig(max_loras=each, **given) for each in slots]


def _refuse_if_none_starts(report: Report) -> None:
    if any(not column.reason for column in report.columns):
        return
    *_, last = report.columns
    advice = "a smaller --max-model-len needs less"
    if last.config.max_loras:
        advice = f"fewer slots (--max-loras) leave more, {advice}"
    if last.kv_tokens >= (last.config.max_model_len or report.profile.llm.max_model_len):
        advice = "--max-loras gives them slots"  # memory is not what is short
    reasons = "; ".join(
        f"max_loras = {column.config.max_loras}: {column.reason} ({column.kv_tokens} KV tokens)"
        for column in report.columns
    )
    raise CapacityError(f"{reasons}; {advice}")
