"""`loratwin report`: runs, measured or simulated, as a table or as one HTML file; and kernels of GPU profiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

RUNS = "runs"


class RunsUnlessNamed(TyperGroup):
    """`report RUN...` needs no further word; `report kernels FILE...` shows something else."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `runs` before arguments that begin with no command."""
        if not args or args[0] not in self.commands:
            args = [RUNS, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=RunsUnlessNamed, help="Show runs, or kernels of GPU profiles.", rich_markup_mode=None)


@app.command(RUNS)
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Records of runs, .json or .parquet, measured or simulated.", metavar="RUN...")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write one self-contained HTML file.", metavar="FILE.html")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Profile (or its file) to simulate the requests of each measured run with, beside it."),
    ] = None,
    slo: Annotated[str | None, typer.Option(help="Limits to check, as ttft_p99=2s,tpot_p99=100ms.")] = None,
    adapters: Annotated[
        bool, typer.Option("--adapters", help="Show each adapter (the HTML file always does).")
    ] = False,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write every table as a CSV file into a folder, too.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON instead of a table.")] = False,
) -> None:
    """Show one run, or several side by side.

    For example: loratwin report measured.json simulated.json -o report.html

    Kernels of GPU profiles: loratwin report kernels --help
    """
    from loratwin.cli.progress import announce_compilation
    from loratwin.metrics import parse_slo
    from loratwin.perf import load_profile
    from loratwin.records import load_runs
    from loratwin.report import (
        check_csv_folder,
        check_html,
        print_runs,
        runs_as_json,
        twins_of,
        write_report,
        write_tables,
    )

    if output is not None:
        check_html(output)
    if csv is not None:
        check_csv_folder(csv)
    limits = parse_slo(slo) if slo is not None else None
    shown = load_runs(runs)
    if profile is not None:
        performance = load_profile(profile)
        announce_compilation()
        shown |= twins_of(shown, performance)
    if output is not None:
        typer.echo(f"written: {write_report(shown, output, slo=limits)}", err=as_json)
    if csv is not None:
        typer.echo(f"written: {len(write_tables(shown, csv, slo=limits))} tables in {csv}", err=as_json)
    if as_json:
        typer.echo(json.dumps(runs_as_json(shown, limits, adapters), indent=2, allow_nan=False))
    elif output is None and csv is None:
        print_runs(shown, limits, adapters)


@app.command()
def kernels(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="nsys export (.sqlite), ncu --csv (.csv), or torch.profiler (.json, .json.gz).", metavar="FILE..."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write one self-contained HTML file.", metavar="FILE.html")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU of the roofline. Default: the one that a file names.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write the tables as CSV files.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON instead of tables.")] = False,
) -> None:
    """Show where the GPU's time goes: kernels by class and phase, memory, stalls, caches, a roofline.

    For example: loratwin report kernels nsys.sqlite ncu.csv -o kernels.html
    """
    from loratwin.report.kernels import (
        kernel_report,
        kernels_json,
        kernels_text,
        write_kernel_page,
        write_kernel_tables,
    )

    found = kernel_report(files, gpu)
    if output is not None:
        typer.echo(f"written: {write_kernel_page(found, output)}", err=as_json)
    if csv is not None:
        typer.echo(f"written: {len(write_kernel_tables(found, csv))} tables in {csv}", err=as_json)
    if as_json:
        typer.echo(json.dumps(kernels_json(found), indent=2, allow_nan=False))
    elif output is None and csv is None:
        typer.echo(kernels_text(found))
