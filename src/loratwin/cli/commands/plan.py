"""`loratwin plan`: what to run on one GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from loratwin.cli.groups import grouped
from loratwin.cli.many import Cluster, answer, are_several
from loratwin.cli.options import (
    CsvFolder,
    JsonFile,
    LineGpu,
    LoraFolder,
    Objective,
    Processes,
    ProfileOrLine,
    SimulatedServer,
    SloKept,
    Workloads,
    check_json,
    prints_json,
    show,
)
from loratwin.cli.serve import Serve, note
from loratwin.lists import whole_numbers
from loratwin.progress import simulations


@grouped
def plan(
    *,
    workload: Workloads,
    profile: ProfileOrLine = None,
    serve: Serve = None,
    gpu: LineGpu = None,
    lora_folder: LoraFolder = None,
    objective: Objective = "throughput",
    slo: SloKept = None,
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
        str | None, typer.Option(metavar="N,N,...", help="Try only so many slots (--max-loras of the server).")
    ] = None,
    max_num_seqs: Annotated[str | None, typer.Option(metavar="N,N,...", help="Try only these.")] = None,
    flags: SimulatedServer,
    hours: Annotated[
        str | None,
        typer.Option(
            metavar="busiest|all",
            help="Of a longer window plan its busiest hour, or all; by default the busiest of a daily curve or trace.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the workload that each figure is the mean of.")] = 3,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="HTML report; by default plan.html. Of several workloads a folder, gone on with if there.",
        ),
    ] = None,
    deploy_to: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET", help="Write the files that start it, too: compose, kubernetes, ... (fleet deploy)."
        ),
    ] = None,
    deploy_folder: Annotated[Path, typer.Option(metavar="FOLDER", help="With --deploy-to: where.")] = Path("deploy"),
    json: JsonFile = None,
    csv: CsvFolder = None,
    processes: Processes = 2,
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
    cluster: Cluster,
) -> None:
    """Find the slots and limits to run for a workload on one GPU, or how many of its adapters one GPU serves.

    Of several workloads, or a folder of them, each gets a plan of its own, and one table says all.

    For example: loratwin plan example:support-desk --profile h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct
    """
    from loratwin.learn import predict
    from loratwin.metrics import parse_slo
    from loratwin.plan import HEADROOM, check_predicted_alone, parse_headroom, plan_text
    from loratwin.plan.line import line_change, line_change_json, line_change_text
    from loratwin.plan.many import PlanQuestion, plan_many
    from loratwin.plan.text import predicted_text
    from loratwin.plan.what_if import check_names, parse_added, parse_scale, plan_and_cases, plan_and_cases_json
    from loratwin.records.plain import as_plain
    from loratwin.report import check_outputs, write_report, write_tables
    from loratwin.simulate import checked_inputs, server_profile

    options: dict[str, Any] = {
        "objective": objective,
        "slo": parse_slo(slo) if slo is not None else None,
        "slo_for": slo_for,
        "headroom": HEADROOM if headroom is None else parse_headroom(headroom),
        "confidence": confidence,
        "slots": None if slots is None else whole_numbers("--slots", slots),
        "max_num_seqs": None if max_num_seqs is None else whole_numbers("--max-num-seqs", max_num_seqs),
        **flags.limits,
        "settings": flags.settings,
        "extrapolate": extrapolate,
        "fast": fast,
        "hours": hours,
    }
    tried = range(seed, seed + seeds)
    changes = [*map(parse_scale, scale or ()), *map(parse_added, add or ())]
    chosen_profile, assumed = server_profile(profile, serve, gpu, flags.quantization, flags.pipeline_parallel)
    if are_several(workload, cluster.on):
        note(assumed)
        question = PlanQuestion(chosen_profile, tried, changes, options)
        without = {"serve": serve, "csv": csv, "no_check": not check}
        without["deploy_to"] = deploy_to
        served = (chosen_profile, lora_folder, flags.max_lora_rank)
        answer(plan_many, question, workload, served, output, json, cluster, processes, **without)
        return
    (name,) = workload
    spec, line, remarks = checked_inputs(name, chosen_profile, serve, lora_folder, flags.max_lora_rank)
    check_names(changes, spec)
    if not check:
        check_predicted_alone(fast, {"--output": output, "--json": json, "--csv": csv, "--deploy-to": deploy_to})
        note((*assumed, *remarks))
        said = predict(spec, chosen_profile, objective=objective, slots=options["slots"], seed=seed)
        typer.echo(predicted_text(said))
        return
    output = output or Path("plan.html")
    inputs = tuple(filter(None, (name, profile)))
    check_outputs(output, csv, inputs)
    if deploy_to is not None:
        from loratwin.fleet.deploying import check_target, deploy_plan

        check_target(deploy_to)
    check_json(json, (output,), inputs)
    note((*assumed, *remarks))
    with simulations() as progress:
        found, cases = plan_and_cases(
            spec, chosen_profile, changes, seeds=tried, processes=processes, name=name, progress=progress, **options
        )
        changed = line_change(found, spec, line, processes=processes, progress=progress) if line else None
        deployed = (
            deploy_plan(found, spec, deploy_to, deploy_folder, processes=processes, progress=progress)
            if deploy_to is not None and found.best is not None
            else []
        )
    write_report(found, output, what_if=cases, line=changed)
    if csv is not None:
        write_tables(found, csv, what_if=cases)
    beside = "" if changed is None else f"\n\n{line_change_text(changed, found)}"
    more = {} if changed is None else {"your_line": as_plain(line_change_json(changed))}
    show(json, lambda: plan_text(found, cases) + beside, lambda: plan_and_cases_json(found, cases) | more)
    typer.echo(f"\nReport: {output}", err=prints_json(json))
    for path in deployed:
        typer.echo(f"written: {path}", err=prints_json(json))
