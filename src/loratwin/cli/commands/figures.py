"""`loratwin figures`: all figures and tables of two published works, as ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loratwin.cli.options import Processes
from loratwin.progress import staged_progress


def figures(
    data: Annotated[Path, typer.Argument(help="Folder with measured tables, with records of runs, or both.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for PNG, SVG and CSV of each, and index.html.", metavar="FOLDER"),
    ],
    only: Annotated[list[str] | None, typer.Option(help="Name of a figure (docs/figures.md); may be repeated.")] = None,
    profile: Annotated[str | None, typer.Option(help="Twin that your own records are compared with.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Make also what is made already.")] = False,
    processes: Processes = 2,
) -> None:
    """Make the figures and tables of arXiv 2508.08343 and 2503.08311 (minutes; what is made already is kept).

    For example: loratwin figures DATA -o figures
    """
    from loratwin.report.figures import make_figures

    with staged_progress(compiles=True) as progress:
        states = make_figures(
            data, output, only=only or (), profile=profile, processes=processes, again=again, progress=progress
        )
    for state in states:
        typer.echo(f"{state.entry.name}: {state.state}" + (f": {state.why}" if state.why else ""))
    typer.echo(f"written: {output / 'index.html'}")
