"""`loratwin simulate`: a workload on one or more configurations of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loratwin.cli.groups import grouped
from loratwin.cli.many import Cluster, answer, are_several
from loratwin.cli.options import (
    CsvFolder,
    JsonFile,
    LineGpu,
    LoraFolder,
    Processes,
    ProfileOrLine,
    SimulatedServer,
    SloChecked,
    Workloads,
    check_json,
    prints_json,
    show,
)
from loratwin.cli.serve import Serve, note
from loratwin.errors import CapacityError
from loratwin.lists import whole_numbers
from loratwin.progress import counted_runs


@grouped
def simulate(
    *,
    workload: Workloads,
    profile: ProfileOrLine = None,
    serve: Serve = None,
    gpu: LineGpu = None,
    lora_folder: LoraFolder = None,
    max_loras: Annotated[
        list[str] | None,
        typer.Option(help="Slots; several (8,16,32, or repeated) are compared. Default: one for each adapter."),
    ] = None,
    max_cpu_loras: Annotated[int | None, typer.Option(help="Adapters kept in host memory. Default: all.")] = None,
    max_num_seqs: Annotated[
        int | None, typer.Option(help="Requests in a batch. Default: what the profile's vLLM takes on its GPU.")
    ] = None,
    max_in_flight: Annotated[
        int | None,
        typer.Option(help="Requests waiting or running beyond which arrivals are refused. Default: no limit."),
    ] = None,
    flags: SimulatedServer,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the (first) run.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Runs with different seeds; more than one: means ± 95 %.")] = 1,
    intervals: Annotated[
        bool,
        typer.Option("--intervals", help="Show where a real run's figures will lie, 90 % of the time (10 runs more)."),
    ] = False,
    slo: SloChecked = None,
    adapters: Annotated[bool, typer.Option("--adapters", help="Show each adapter (first seed).")] = False,
    series: Annotated[
        bool, typer.Option("--series", help="Show the course over time (first seed), and keep it in the record.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the run to .json or .parquet, or all runs to a folder; of several workloads a folder for all "
            "results, which the same command goes on with.",
            metavar="PATH",
        ),
    ] = None,
    csv: CsvFolder = None,
    json: JsonFile = None,
    processes: Processes = 1,
    cluster: Cluster,
) -> None:
    """Simulate a workload on a server, or on several that differ in their slots; or many workloads.

    For example: loratwin simulate example:support-desk --profile h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct
    --max-loras 16,32,64
    """
    from loratwin.metrics import parse_slo
    from loratwin.report import check_outputs, print_sweep, write_tables
    from loratwin.simulate import (
        SweepQuestion,
        check_runs_path,
        checked_inputs,
        line_beside,
        on_line,
        save_runs,
        server_configs,
        server_profile,
        sweep,
        sweep_many,
    )

    performance, assumed = server_profile(profile, serve, gpu, flags.quantization, flags.pipeline_parallel)
    slots = None if max_loras is None else whole_numbers("--max-loras", max_loras)
    own = {"max_cpu_loras": max_cpu_loras, "max_num_seqs": max_num_seqs, "max_in_flight": max_in_flight}
    options = {**own, **flags.limits, **flags.settings}
    limits, tried = parse_slo(slo) if slo is not None else None, range(seed, seed + seeds)
    as_line = serve is not None
    if are_several(workload, cluster.on):
        note((*assumed, *(line_beside(serve, performance)[1] if serve else ())))
        question = SweepQuestion(performance, slots, options, list(tried), slo, intervals, adapters, series, as_line)
        served = (performance, lora_folder, flags.max_lora_rank)
        answer(sweep_many, question, workload, served, output, json, cluster, processes, csv=csv)
        return
    (name,) = workload
    spec, _, remarks = checked_inputs(name, performance, serve, lora_folder, flags.max_lora_rank)
    configs = server_configs(spec, performance, slots, **options)
    if as_line:
        configs = [on_line(config) for config in configs]
    num_runs = len(configs) * seeds
    if output is not None:
        check_runs_path(output, num_runs)
    check_outputs(None, csv)
    check_json(json, (output,), filter(None, (name, profile)))
    note((*assumed, *remarks))
    with counted_runs(num_runs) as progress:
        done = sweep(
            spec, performance, configs, seeds=tried, slo=limits, intervals=intervals,
            keep="all" if output else "first" if adapters or series or csv else "none",
            with_steps=series, processes=processes, progress=progress, name=name,
        )  # fmt: skip
    if done.none_starts:
        raise CapacityError(done.none_starts)
    written = [] if output is None else save_runs(done, output)
    show(json, lambda: print_sweep(done, adapters, series), lambda: done.as_json(adapters, series))
    for path in written:
        typer.echo(f"written: {path}", err=prints_json(json))
    if csv is not None:
        typer.echo(f"written: {len(write_tables(done, csv))} tables in {csv}", err=prints_json(json))
