"""`loratwin plan`: what to run on one GPU."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from loratwin.cli.options import (
    Dtype,
    EnablePrefixCaching,
    EnforceEager,
    FullyShardedLoras,
    KvCacheDtype,
    KvCacheMemoryBytes,
    MaxLoraRank,
    PipelineParallel,
    Quantization,
    whole_numbers,
)
from loratwin.cli.serve import Serve, line_beside
from loratwin.errors import InputError


def plan(
    workload: Annotated[str, typer.Argument(help="Workload file, example:NAME, or a record to replay.")],
    profile: Annotated[str, typer.Option(help="GPU, engine version and LLM; or a profile file.", show_default=False)],
    serve: Serve = None,
    objective: Annotated[str, typer.Option(help="throughput, or latency (mean end to end).")] = "throughput",
    slo: Annotated[
        str | None, typer.Option(help="Limits to keep, as ttft_p99=2s,tpot_p99=100ms.", show_default=False)
    ] = None,
    slo_for: Annotated[
        str | None,
        typer.Option(
            metavar="all|groups|adapters",
            help="Of whom the SLO is asked: the server as a whole, each group, or each adapter.",
            show_default="all",
        ),
    ] = None,
    headroom: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="How much higher all rates can be before it starves or misses the SLO; 0 plans to the edge.",
            show_default="20%",
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            metavar="PROBABILITY",
            help="Least chance that a real run keeps up and holds the SLO, as 0.9; by default it is only said.",
            show_default=False,
        ),
    ] = None,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Also slots and max_num_seqs beyond those that were measured.")
    ] = False,
    scale: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FACTOR", help="What if an adapter, a group or all ask for so much? Can be repeated."
        ),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="What if these came, as '24 adapters at 0.1/s, rank 16'? Can be repeated."),
    ] = None,
    slots: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Try only these max_loras.", show_default=False)
    ] = None,
    max_num_seqs: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Try only these.", show_default=False)
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tokens of a step; by default what the profile's vLLM takes on its GPU.", show_default=False
        ),
    ] = None,
    max_model_len: Annotated[
        int | None, typer.Option(min=1, help="Longest context; by default the LLM's.", show_default=False)
    ] = None,
    gpu_memory_utilization: Annotated[
        float | None,
        typer.Option(
            help="Part of the GPU memory to fill; by default that of the profile's vLLM, 0.9 or 0.92.",
            show_default=False,
        ),
    ] = None,
    max_lora_rank: MaxLoraRank = None,
    fully_sharded_loras: FullyShardedLoras = False,
    enforce_eager: EnforceEager = False,
    kv_cache_dtype: KvCacheDtype = "auto",
    kv_cache_memory_bytes: KvCacheMemoryBytes = None,
    enable_prefix_caching: EnablePrefixCaching = None,
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    pipeline_parallel: PipelineParallel = 1,
    hours: Annotated[
        str | None,
        typer.Option(
            metavar="busiest|all",
            help="Of a longer window plan its busiest hour, or all; by default the busiest of a daily curve or trace.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the workload that each figure is the mean of.")] = 3,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="HTML report to write; by default plan.html.", show_default=False),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the plan as JSON, too.", show_default=False)] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write every table as a CSV file into a folder, too.", show_default=False),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            help="Begin at the slots of the learned model; the twin checks them and their like, with one seed.",
        ),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="With --fast: check with the twin, or only print the answer.")
    ] = True,
) -> None:
    """Find the slots and limits to run for a workload on one GPU, or how many of its adapters one GPU serves.

    For example: loratwin plan example:support-desk --profile h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct
    """
    from loratwin.cli.progress import announce_compilation
    from loratwin.metrics import parse_slo
    from loratwin.perf import served_profile
    from loratwin.plan import HEADROOM, parse_headroom, plan_json, plan_text
    from loratwin.plan import plan as find_plan
    from loratwin.plan.line import line_change, line_change_json, line_change_text
    from loratwin.plan.what_if import check_names, parse_added, parse_scale, what_if, what_if_json
    from loratwin.records import write_atomically
    from loratwin.records.plain import as_plain
    from loratwin.report import check_csv_folder, plan_report, write_tables
    from loratwin.workload import load_spec

    limits = parse_slo(slo) if slo is not None else None
    share = HEADROOM if headroom is None else parse_headroom(headroom)
    slot_list = None if slots is None else whole_numbers("--slots", slots)
    sequences = None if max_num_seqs is None else whole_numbers("--max-num-seqs", max_num_seqs)
    changes = [*map(parse_scale, scale or ()), *map(parse_added, add or ())]
    chosen_profile = served_profile(profile, quantization, pipeline_parallel)
    spec = load_spec(workload)
    line = line_beside(serve, chosen_profile)
    check_names(changes, spec)
    if not check:
        _check_no_plan(fast, output, json, csv)
    output = output or Path("plan.html")
    _check_outputs(output, json, (workload, profile))
    if csv is not None:
        check_csv_folder(csv)
    if not check:
        from loratwin.learn import predict
        from loratwin.plan.text import predicted_text

        typer.echo(predicted_text(predict(spec, chosen_profile, objective=objective, slots=slot_list, seed=seed)))
        return
    announce_compilation()
    with _progress() as progress:
        answer = find_plan(
            spec,
            chosen_profile,
            objective=objective,  # type: ignore[arg-type]  # checked there
            slo=limits,
            slo_for=slo_for,  # type: ignore[arg-type]  # checked there
            headroom=share,
            confidence=confidence,
            seeds=range(seed, seed + seeds),
            slots=slot_list,
            max_num_seqs=sequences,
            max_num_batched_tokens=max_num_batched_tokens,
            max_model_len=max_model_len,
            gpu_memory_utilization=gpu_memory_utilization,
            settings={
                "max_lora_rank": max_lora_rank,
                "fully_sharded_loras": fully_sharded_loras,
                "enforce_eager": enforce_eager,
                "kv_cache_dtype": kv_cache_dtype,
                "kv_cache_memory_bytes": kv_cache_memory_bytes,
                "enable_prefix_caching": enable_prefix_caching,
                "dtype": dtype,
                "quantization": quantization,
            },
            extrapolate=extrapolate,
            fast=fast,
            hours=hours,  # type: ignore[arg-type]  # checked there
            processes=processes,
            progress=progress,
            name=workload,
        )
        cases = what_if(answer, spec, changes, processes=processes, progress=progress) if changes else ()
        changed = line_change(answer, spec, line, processes=processes, progress=progress) if line else None
    page = plan_report(answer, cases)
    if json is not None:
        data = plan_json(answer) | {"what_if": what_if_json(cases, answer)}
        if changed is not None:
            data["your_line"] = as_plain(line_change_json(changed))
        write_atomically(json, json_format.dumps(data, indent=1, allow_nan=False) + "\n")
    write_atomically(output, page)
    if csv is not None:
        write_tables(answer, csv, what_if=cases)
    typer.echo(plan_text(answer, cases))
    if changed is not None:
        typer.echo(f"\n{line_change_text(changed, answer)}")
    typer.echo(f"\nReport: {output}")


def _check_no_plan(fast: bool, output: Path | None, json: Path | None, csv: Path | None) -> None:
    """What cannot be asked for together with `--no-check`."""
    if not fast:
        raise InputError("--no-check: goes with --fast; without it, all figures are the twin's")
    for option, path in (("--output", output), ("--json", json), ("--csv", csv)):
        if path is not None:
            raise InputError(
                f"{option}: with --no-check there is no plan to write (loratwin learn predict --no-check --json FILE "
                "writes what the learned model says)"
            )


def _check_outputs(output: Path, json: Path | None, inputs: Sequence[str]) -> None:
    """Refuse before long work files that cannot be written, or would replace each other or what they are made of."""
    from loratwin.records import check_writable
    from loratwin.report import check_html

    check_html(output)
    if json is not None:
        check_writable(json)
        if json.resolve() == output.resolve():
            raise InputError(f"{json} is given as both --output and --json")
    for path in filter(None, (output, json)):
        if path.exists() and any(Path(given).exists() and path.samefile(given) for given in inputs):
            raise InputError(f"{path} is a file that the plan is made of: give another name")


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """One bar on stderr, whose end moves as more simulations turn out to be needed; in a pipe a line a minute."""
    if not sys.stderr.isatty():
        from loratwin.cli.progress import stage_lines

        with stage_lines(announce=False) as report:
            yield lambda done, total, what: report(f"simulating ({what})", done, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    what = TextColumn("{task.description}")
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), what)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=None)
        yield lambda done, total, what: bars.update(bar, completed=done, total=total, description=what)
