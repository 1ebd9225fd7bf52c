"""`loratwin compare`: plans and profiles, or runs, side by side."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from loratwin.cli.groups import grouped
from loratwin.cli.options import Files, Objective, Processes, SloKept, show
from loratwin.progress import announce_compilation


@grouped
def compare(
    *,
    what: Annotated[
        list[str],
        typer.Argument(
            help="Plans (written by plan --json) and profiles; or runs, .json or .parquet.", metavar="WHAT..."
        ),
    ],
    workload: Annotated[
        str | None, typer.Option(help="Workload (or example:NAME) that profiles are planned for.")
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]NUMBER", help="Price of a GPU-hour, of all or of one by its name; can be repeated."
        ),
    ] = None,
    objective: Objective = "throughput",
    slo: SloKept = None,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the workload for profiles.")] = 3,
    files: Files,
    processes: Processes = 2,
) -> None:
    """Set plans, profiles or runs side by side: GPUs, cost, latency, margin; differences are against the first.

    For example: loratwin compare h100.json l40s.json --price h100=2.5 --price l40s=0.9
    """
    from loratwin.metrics import parse_slo
    from loratwin.plan.compare import parse_prices
    from loratwin.report import as_text, write_report, write_tables
    from loratwin.report.compare import compare as compare_all
    from loratwin.report.compare import compared_json
    from loratwin.workload import load_spec

    files.check(what)
    prices, limits = parse_prices(price or ()), parse_slo(slo) if slo is not None else None
    spec = load_spec(workload) if workload is not None else None
    if spec is not None:
        announce_compilation()
    compared = compare_all(
        what, workload=spec, prices=prices, workload_name=workload or "", objective=objective, slo=limits,
        seeds=range(seeds), processes=processes,
    )  # fmt: skip
    show(files.json, lambda: as_text(compared), lambda: compared_json(compared, limits))
    files.write(partial(write_report, compared, slo=limits), partial(write_tables, compared, slo=limits))
