"""`loratwin report`: runs, measured or simulated, as a table or as one HTML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loratwin.errors import InputError

if TYPE_CHECKING:
    from loratwin.records import Run


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
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON instead of a table.")] = False,
) -> None:
    """Show one run, or several side by side.

    For example: loratwin report measured.json simulated.json -o report.html
    """
    from loratwin.metrics import parse_slo
    from loratwin.records import write_atomically

    if output is not None:
        check_html(output)
    limits = parse_slo(slo) if slo is not None else None
    found = load_all(runs)
    shown = {**found, **simulated_beside(found, profile)} if profile is not None else found
    if output is not None:
        from loratwin.report import run_report

        written = write_atomically(output, run_report(shown, limits))
        typer.echo(f"written: {written}", err=as_json)
    if as_json:
        from loratwin.report.run_json import runs_as_json

        typer.echo(json.dumps(runs_as_json(shown, limits, adapters), indent=2, allow_nan=False))
    elif output is None:
        from loratwin.cli.runs_table import print_runs

        print_runs(shown, limits, adapters)


def check_html(path: Path) -> None:
    """Refuse before long work a report that could not be written after it, or would replace a record.

    Raises
    ------
    InputError
        Another suffix, or it cannot be written.
    """
    from loratwin.records import check_writable

    if path.suffix not in (".html", ".htm"):
        raise InputError(f"{path}: the report is an HTML file, as report.html")
    check_writable(path)


def load_all(paths: list[Path]) -> dict[str, Run]:
    """Runs by name: the file's, with as much of its folder as tells it from the others."""
    from loratwin.records import load_run

    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{path} is given twice")
    return {_name(path, paths): load_run(path) for path in paths}


def _name(path: Path, paths: list[Path]) -> str:
    stems = [each.stem for each in paths]
    if stems.count(path.stem) == 1:
        return path.stem
    names = [each.name for each in paths]
    return path.name if names.count(path.name) == 1 else str(path)


def simulated_beside(runs: dict[str, Run], profile: str) -> dict[str, Run]:
    """The twin of each measured run, named after it.

    Raises
    ------
    InputError
        None is measured, or the twin cannot simulate one of them.
    """
    from loratwin.cli.progress import announce_compilation
    from loratwin.perf import load_profile
    from loratwin.report.twin import twin_of

    performance = load_profile(profile)
    measured = {name: run for name, run in runs.items() if run.kind == "measured"}
    if not measured:
        raise InputError("--profile: none of the runs is measured, so there is nothing to simulate beside them")
    announce_compilation()
    return {f"{name} by the twin": twin_of(run, performance) for name, run in measured.items()}
