"""`loratwin report`: runs, measured or simulated, as a table or as one HTML file; and kernels of GPU profiles."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from loratwin.cli.groups import command_group, grouped
from loratwin.cli.options import Files, SloChecked, show
from loratwin.cli.serve import Serve
from loratwin.progress import announce_compilation

RUNS = "runs"


class RunsUnlessNamed(TyperGroup):
    """`report RUN...` needs no further word; `report kernels FILE...` shows something else."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `runs` before arguments that begin with no command."""
        if not args or args[0] not in self.commands:
            args = [RUNS, *args]
        return super().parse_args(ctx, args)


app = command_group("Show runs, or kernels of GPU profiles.", cls=RunsUnlessNamed, no_args_is_help=False)


@app.command(RUNS)
@grouped
def report(
    *,
    runs: Annotated[
        list[Path],
        typer.Argument(help="Records of runs, .json or .parquet; or results of other load clients.", metavar="RUN..."),
    ],
    profile: Annotated[
        str | None, typer.Option(help="Profile to simulate the requests of each measured run with, beside it.")
    ] = None,
    serve: Serve = None,
    server_args: Annotated[
        str | None,
        typer.Option(help="What the measured servers ran with, where the records do not tell it, in one string."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Of results of other load clients: the server's version, as vllm-0.32.0.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(help="Of the same: the server's GPU, as h100-sxm, or cpu; its defaults depend on it.")
    ] = None,
    slo: SloChecked = None,
    adapters: Annotated[
        bool, typer.Option("--adapters", help="Show each adapter (the HTML file always does).")
    ] = False,
    files: Files,
) -> None:
    """Show one run, or several side by side.

    For example: loratwin report measured.json simulated.json -o report.html

    Kernels of GPU profiles: loratwin report kernels --help
    """
    from loratwin.calibrate.results.read import load_runs_or_results
    from loratwin.metrics import parse_slo
    from loratwin.perf import load_profile
    from loratwin.report import print_runs, runs_as_json, twins_of, with_arguments, write_report, write_tables

    files.check(runs)
    limits = parse_slo(slo) if slo is not None else None
    shown = load_runs_or_results(runs, engine or "", gpu or "")
    if server_args is not None:
        shown = with_arguments(shown, server_args)
    if profile is not None:
        performance = load_profile(profile)
        announce_compilation()
        shown |= twins_of(shown, performance)
    files.write(partial(write_report, shown, slo=limits), partial(write_tables, shown, slo=limits))
    show(
        files.json,
        lambda: None if files.instead else print_runs(shown, limits, adapters),
        lambda: runs_as_json(shown, limits, adapters),
    )


@app.command()
@grouped
def kernels(
    *,
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="nsys export (.sqlite), ncu --csv (.csv), or torch.profiler (.json, .json.gz).", metavar="FILE..."
        ),
    ],
    gpu: Annotated[str | None, typer.Option(help="GPU of the roofline. Default: the one that a file names.")] = None,
    files: Files,
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

    files.check(sources)
    made = kernel_report(sources, gpu)
    files.write(partial(write_kernel_page, made), partial(write_kernel_tables, made))
    show(files.json, lambda: None if files.instead else kernels_text(made), lambda: kernels_json(made))
