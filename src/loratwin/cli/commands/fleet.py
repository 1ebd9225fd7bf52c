"""`loratwin fleet`: several servers."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from loratwin.cli.groups import command_group
from loratwin.cli.options import CsvFolder, Files, HtmlFile, JsonFile, Processes, ProfileGiven, check_json, show
from loratwin.lists import names_by_name, numbers_by_name, percent
from loratwin.progress import announce_compilation, simulations, staged_progress

app = command_group("Several servers, and the router before them.")

PlacementFile = Annotated[Path, typer.Argument(help="Placement, or a plan of a fleet (.json).", metavar="PLACEMENT")]
WorkloadFile = Annotated[str, typer.Argument(help="Workload file, or example:NAME.")]
Scrape = Annotated[float, typer.Option(help="Seconds between two looks of the router at a server; 0: none too old.")]
Headroom = Annotated[
    str, typer.Option(metavar="PERCENT", help="How much higher all rates can be before a server fails.")
]
ServerSlo = Annotated[
    str | None,
    typer.Option(
        "--slo",
        help="Limits of every server, as ttft_p99=2s, in place of the workload's; groups with a slo keep theirs.",
    ),
]
SloAsked = Annotated[
    str | None,
    typer.Option("--slo-for", metavar="all|groups|adapters", help="Of whom they are asked.", show_default="all"),
]
ServerProcesses = Annotated[
    int, typer.Option("--processes", min=1, help="That simulate servers, where the router does not look at them.")
]


@app.command()
def simulate(
    placement: PlacementFile,
    workload: WorkloadFile,
    router: Annotated[
        str,
        typer.Option(
            help="fractions, weighted, random, round-robin, hash-1, hash-2, least-in-flight, two-choices, dynamo, "
            "llm-d, llm-d-lora-before-2625, llm-d-lora, llm-d-residency; or loraserve, production-stack, aibrix, "
            "kubeai, ray, kserve."
        ),
    ] = "fractions",
    weights: Annotated[
        str | None, typer.Option(help="Of the scorers of llm-d: queue=2,kv=2,lora=4,load=0.", metavar="NAME=W,...")
    ] = None,
    scrape: Scrape = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Of the requests.")] = 0,
    processes: ServerProcesses = 1,
    servers: Annotated[bool, typer.Option("--servers", help="Show every server, not the busiest alone.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all requests with their servers (.json, .parquet).")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Simulate a whole fleet: who waits how long, and which server does how much.

    For example: loratwin fleet simulate placement.json workload.yaml --router llm-d-lora
    """
    from loratwin.fleet import load_placement, simulate_fleet
    from loratwin.fleet.run_text import fleet_run_json, fleet_run_lines
    from loratwin.records import check_writable, save_run
    from loratwin.workload import draw, load_spec

    check_json(json_file, () if output is None else (output,), (str(placement), workload))
    where, requests = load_placement(placement), draw(load_spec(workload), seed)
    if output is not None:
        check_writable(output)
    announce_compilation()
    done = simulate_fleet(
        where, requests, router, scrape_s=scrape, processes=processes,
        weights=None if weights is None else numbers_by_name("--weights", weights),
    )  # fmt: skip
    if output is not None:
        save_run(done.run, output)
    show(json_file, lambda: "\n".join(fleet_run_lines(done, servers)), lambda: fleet_run_json(done))


@app.command()
def plan(
    workload: WorkloadFile,
    gpus: Annotated[
        list[str],
        typer.Option(
            metavar="PROFILE|GPU[:COUNT][@PRICE]",
            help="A kind of server: how many can be had, price an hour. Can be repeated.",
            show_default=False,
        ),
    ],
    llm: Annotated[
        str | None, typer.Option(help="With GPUs' names in --gpus: a name, as llama-3.1-8b-instruct, or config.json.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="With --llm: version of vLLM. Default: the newest known.")] = None,
    target: Annotated[
        str, typer.Option(help="fewest servers, cheapest, or latency: all given ones, for the worst adapter's TTFT.")
    ] = "fewest",
    slo: ServerSlo = None,
    slo_for: SloAsked = None,
    headroom: Headroom = "20%",
    confidence: Annotated[float | None, typer.Option(help="Least chance that each real server keeps up.")] = None,
    pin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SERVER,...",
            help="An adapter or group must be on gpu-0, ..., whatever pin the workload has for it. Can be repeated.",
        ),
    ] = None,
    isolate: Annotated[
        list[str] | None,
        typer.Option(metavar="GROUP", help="Shares no server, as those isolated in the workload. Can be repeated."),
    ] = None,
    failures: Annotated[int, typer.Option(min=0, max=1, help="Servers that can be lost.")] = 0,
    present: Annotated[Path | None, typer.Option(help="Where adapters are now: a placement or plan.")] = None,
    moves: Annotated[
        str | None,
        typer.Option(metavar="N|N%", help="Adapters that may be moved: from --present; with --every, in 24 hours."),
    ] = None,
    move_price: Annotated[
        float, typer.Option(help="Of moving one, in the servers' currency (without: server-hours). Fewer moves then.")
    ] = 0.0,
    replica_share: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT", help="Of a server's mean load that a replica carries at most; less: more replicas."
        ),
    ] = None,
    every: Annotated[
        float | None, typer.Option(metavar="HOURS", help="Plan each period of traffic that drifts, one after another.")
    ] = None,
    ahead: Annotated[bool, typer.Option(help="--every: each placement carries the next period's traffic, too.")] = True,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the workload that verify every server.")] = 3,
    processes: Processes = 2,
    output: HtmlFile = None,
    csv: CsvFolder = None,
    json_file: JsonFile = None,
) -> None:
    """Find how many servers a workload needs, which adapters live on which, and their slots and limits.

    For example: loratwin fleet plan example:support-desk --gpus h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct@2.5
    """
    from loratwin.fleet import Wishes, load_placement, parse_gpus, plan_fleet, plan_schedule
    from loratwin.fleet.plan_text import fleet_plan_json, fleet_plan_lines
    from loratwin.fleet.schedule import parse_moves
    from loratwin.fleet.schedule_text import fleet_schedule_json, fleet_schedule_lines
    from loratwin.plan import parse_headroom
    from loratwin.report.fleet_page import write_fleet_page, write_fleet_tables
    from loratwin.report.schedule_page import write_schedule_page, write_schedule_tables
    from loratwin.workload import load_spec

    given = (workload,) if present is None else (workload, str(present))
    files = Files(output, csv, json_file)
    files.check(given)
    now = None if present is None else load_placement(present)
    kinds, spec, share = [parse_gpus(each, llm, engine) for each in gpus], load_spec(workload), parse_headroom(headroom)
    most = None if moves is None else parse_moves(moves, sum(group.count for group in spec.groups))
    pins = names_by_name("--pin", pin or ())
    replica = None if replica_share is None else percent("--replica-share", replica_share)
    wishes = Wishes(pins, tuple(isolate or ()), failures, now, most if every is None else None, move_price, replica)
    with simulations() as progress:
        options: dict[str, Any] = dict(
            target=target, slo=slo, slo_for=slo_for, headroom=share, confidence=confidence, wishes=wishes,
            seeds=range(seeds), processes=processes, progress=progress, name=workload,
        )  # fmt: skip
        if every is not None:
            schedule = plan_schedule(spec, kinds, every_s=3600 * every, moves_a_day=most, ahead=ahead, **options)
            text, data = partial(fleet_schedule_lines, schedule), partial(fleet_schedule_json, schedule)
            page, tables = partial(write_schedule_page, schedule), partial(write_schedule_tables, schedule)
        else:
            found = plan_fleet(spec, kinds, **options)
            text, data = partial(fleet_plan_lines, found), partial(fleet_plan_json, found)
            page, tables = partial(write_fleet_page, found), partial(write_fleet_tables, found)
    show(json_file, lambda: "\n".join(text()), data)
    files.write(page, tables)


@app.command()
def compare(
    workload: WorkloadFile,
    profile: ProfileGiven,
    slo: ServerSlo = None,
    slo_for: SloAsked = None,
    headroom: Headroom = "20%",
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the workload that verify every server.")] = 1,
    processes: Processes = 2,
    json_file: JsonFile = None,
    csv: CsvFolder = None,
) -> None:
    """Set ways of placing side by side: the fewest servers each needs for a workload, with the best slots for each.

    Ours, the published greedy, first fit, MaxBackbone, random, whole adapters, rendezvous hash, LoRAServe and dLoRA.

    For example: loratwin fleet compare workload.yaml --profile h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct
    """
    from loratwin.fleet import Gpus, compare_placements
    from loratwin.fleet.comparing_text import comparison_json, comparison_lines
    from loratwin.perf import load_profile
    from loratwin.plan import parse_headroom
    from loratwin.report.fleet_tables import placements_table
    from loratwin.report.tables import check_csv_folder, write_csv
    from loratwin.workload import load_spec

    check_json(json_file, (), (workload,))
    if csv is not None:
        check_csv_folder(csv)
    kind, spec = Gpus(load_profile(profile)), load_spec(workload)
    with simulations() as progress:
        found = compare_placements(
            spec, kind, slo=slo, slo_for=slo_for, headroom=parse_headroom(headroom),  # type: ignore[arg-type]  # checked there
            seeds=range(seeds), processes=processes, progress=progress,
        )  # fmt: skip
    show(json_file, lambda: "\n".join(comparison_lines(found)), lambda: comparison_json(found, workload, kind.name))
    if csv is not None:
        write_csv([placements_table(found)], csv)


@app.command()
def tune(
    placement: PlacementFile,
    workload: WorkloadFile,
    router: Annotated[
        str, typer.Option(help="One with scorers: llm-d, llm-d-lora, llm-d-lora-before-2625, llm-d-residency, kserve.")
    ] = "llm-d-lora",
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=W,W,...",
            help="Weights of a scorer to try. Can be repeated.",
            show_default="queue=0,1,2,4 kv=0,2 lora=0,1,2,4,8",
        ),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="worst_adapter (its mean TTFT), ttft_p99 or ttft_mean: what is to be small.")
    ] = "worst_adapter",
    scrape: Scrape = 0.05,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the workload for the choice.")] = 3,
    check_seeds: Annotated[int, typer.Option(min=2, help="Further draws for the evidence.")] = 8,
    processes: Processes = 2,
    json_file: JsonFile = None,
) -> None:
    """Choose the weights of a router's scorers for a placement and its traffic, and say what they are worth.

    For example: loratwin fleet tune placement.json workload.yaml --router llm-d-lora --grid lora=0,1,2,4,8
    """
    from loratwin.fleet import load_placement, tune_router
    from loratwin.fleet.tuning import parse_grid
    from loratwin.fleet.tuning_text import tuned_json, tuned_lines
    from loratwin.workload import load_spec

    check_json(json_file, (), (str(placement), workload))
    where, spec = load_placement(placement), load_spec(workload)
    with staged_progress(compiles=True) as report:
        tuned = tune_router(
            where, spec, router, grid=parse_grid(grid), objective=objective, seeds=range(seeds),  # type: ignore[arg-type]  # checked there
            check_seeds=range(seeds, seeds + check_seeds), scrape_s=scrape, processes=processes, progress=report,
        )  # fmt: skip
    show(json_file, lambda: "\n".join(tuned_lines(tuned)), lambda: tuned_json(tuned))


@app.command()
def deploy(
    placement: PlacementFile,
    to: Annotated[
        str, typer.Option(help="compose, kubernetes, production-stack, aibrix, kserve, llm-d, ray or dynamo.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.", metavar="FOLDER")],
    workload: Annotated[
        str | None,
        typer.Option(
            help="What is served: alert rules by what the twin expects, and files for bench, are written, too."
        ),
    ] = None,
    tag: Annotated[str | None, typer.Option(help="Version of the images.", show_default="the profile's")] = None,
    headroom: Headroom = "20%",
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the workload that tell what to expect.")] = 3,
    processes: ServerProcesses = 1,
) -> None:
    """Write the files that start the servers of a placement, and with a workload what watches and measures them.

    For example: loratwin fleet deploy plan.json --to compose --workload workload.yaml -o deploy
    """
    from loratwin.fleet import load_placement
    from loratwin.fleet.deploying import deploy as write
    from loratwin.plan import parse_headroom
    from loratwin.workload import load_spec

    where, spec = load_placement(placement), None if workload is None else load_spec(workload)
    with simulations() if spec is not None else nullcontext() as progress:
        paths = write(
            where, to, output, spec, tag=tag, headroom=parse_headroom(headroom), seeds=range(seeds),
            processes=processes, progress=progress,
        )  # fmt: skip
    typer.echo("\n".join(f"written: {path}" for path in paths))
