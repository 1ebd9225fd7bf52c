"""`loratwin fleet`: several servers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loratwin.cli.groups import command_group
from loratwin.cli.options import JsonFile, Processes, check_json, show
from loratwin.lists import names_by_name, numbers_by_name
from loratwin.progress import announce_compilation, simulations

app = command_group("Several servers, and the router before them.")

PlacementFile = Annotated[Path, typer.Argument(help="Placement, or a plan of a fleet (.json).", metavar="PLACEMENT")]
WorkloadFile = Annotated[str, typer.Argument(help="Workload file, or example:NAME.")]
Scrape = Annotated[float, typer.Option(help="Seconds between two looks of the router at a server; 0: none too old.")]
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
            metavar="PROFILE[:COUNT][@PRICE]",
            help="A kind of server: how many can be had, price an hour. Can be repeated.",
            show_default=False,
        ),
    ],
    target: Annotated[
        str, typer.Option(help="fewest servers, cheapest, or latency: all given ones, for the worst adapter's TTFT.")
    ] = "fewest",
    slo: Annotated[str | None, typer.Option(help="Limits of every server, as ttft_p99=2s.")] = None,
    slo_for: Annotated[
        str | None, typer.Option(metavar="all|groups|adapters", help="Of whom they are asked.", show_default="all")
    ] = None,
    headroom: Annotated[
        str, typer.Option(metavar="PERCENT", help="How much higher all rates can be before a server fails.")
    ] = "20%",
    confidence: Annotated[float | None, typer.Option(help="Least chance that each real server keeps up.")] = None,
    pin: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SERVER,...", help="An adapter or group must be on gpu-0, ... Can be repeated."),
    ] = None,
    isolate: Annotated[
        list[str] | None, typer.Option(metavar="GROUP", help="Shares no server with others. Can be repeated.")
    ] = None,
    failures: Annotated[int, typer.Option(min=0, max=1, help="Servers that can be lost.")] = 0,
    present: Annotated[Path | None, typer.Option(help="Where adapters are now: a placement or plan.")] = None,
    moves: Annotated[int | None, typer.Option(min=0, help="With --present: adapters that may be moved.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the workload that verify every server.")] = 3,
    processes: Processes = 2,
    json_file: JsonFile = None,
) -> None:
    """Find how many servers a workload needs, which adapters live on which, and their slots and limits.

    For example: loratwin fleet plan example:support-desk --gpus h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct@2.5
    """
    from loratwin.fleet import Wishes, load_placement, parse_gpus, plan_fleet
    from loratwin.fleet.plan_text import fleet_plan_json, fleet_plan_lines
    from loratwin.plan import parse_headroom
    from loratwin.workload import load_spec

    check_json(json_file, (), (workload,) if present is None else (workload, str(present)))
    now = None if present is None else load_placement(present)
    wishes = Wishes(names_by_name("--pin", pin or ()), tuple(isolate or ()), failures, now, moves)
    kinds, spec, share = [parse_gpus(each) for each in gpus], load_spec(workload), parse_headroom(headroom)
    with simulations() as progress:
        found = plan_fleet(
            spec, kinds, target=target, slo=slo, slo_for=slo_for,  # type: ignore[arg-type]  # checked there
            headroom=share, confidence=confidence, wishes=wishes, seeds=range(seeds), processes=processes,
            progress=progress, name=workload,
        )  # fmt: skip
    show(json_file, lambda: "\n".join(fleet_plan_lines(found)), lambda: fleet_plan_json(found))


@app.command()
def deploy(
    placement: PlacementFile,
    to: Annotated[
        str, typer.Option(help="compose, kubernetes, production-stack, aibrix, kserve, llm-d, ray or dynamo.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.", metavar="FOLDER")],
    tag: Annotated[str | None, typer.Option(help="Version of the images.", show_default="the profile's")] = None,
) -> None:
    """Write the files that start the servers of a placement, checked by a schema.

    For example: loratwin fleet deploy placement.json --to compose -o deploy
    """
    from loratwin.fleet import load_placement
    from loratwin.fleet.deployment import deployment, save_deployment

    for path in save_deployment(deployment(load_placement(placement), to, tag), output):
        typer.echo(f"written: {path}")
