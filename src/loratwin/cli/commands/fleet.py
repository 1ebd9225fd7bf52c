"""`loratwin fleet`: several servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Several servers, and the router before them.", no_args_is_help=True, rich_markup_mode=None)

PlacementFile = Annotated[Path, typer.Argument(help="Placement, or a plan of a fleet (.json).", metavar="PLACEMENT")]
WorkloadFile = Annotated[str, typer.Argument(help="Workload file, or example:NAME.")]
Scrape = Annotated[float, typer.Option(help="Seconds between two looks of the router at a server; 0: none too old.")]
Processes = Annotated[int, typer.Option(min=1, help="That simulate servers, where the router does not look at them.")]


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
    processes: Processes = 1,
    servers: Annotated[bool, typer.Option("--servers", help="Show every server, not the busiest alone.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write all requests with their servers (.json, .parquet)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON instead of tables.")] = False,
) -> None:
    """Simulate a whole fleet: who waits how long, and which server does how much.

    For example: loratwin fleet simulate placement.json workload.yaml --router llm-d-lora
    """
    from loratwin.cli.options import numbers_by_name
    from loratwin.cli.progress import announce_compilation
    from loratwin.fleet import load_placement, simulate_fleet
    from loratwin.fleet.run_text import fleet_run_json, fleet_run_lines
    from loratwin.records import check_writable, save_run
    from loratwin.workload import draw, load_spec

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
    for line in [json.dumps(fleet_run_json(done), indent=1)] if as_json else fleet_run_lines(done, servers):
        typer.echo(line)
