"""`loratwin calibrate`: profiles from measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make profiles from measurements.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def fit(
    data: Annotated[Path, typer.Argument(help="Folder with the measured tables (serving_*.csv, ...).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the profile files.")],
    processes: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
) -> None:
    """Fit the profiles of every measured LLM, with held-out errors on their cards (takes some minutes)."""
    from loratwin.cli.progress import announce_compilation, staged_progress
    from loratwin.perf import dump_profile
    from loratwin.records import check_writable, write_atomically
    from loratwin.validate.cards import carded_profiles
    from loratwin.validate.crossval import cross_validate, fit_all

    check_writable(output / "profile.yaml")
    announce_compilation()
    with staged_progress() as progress:
        fits = fit_all(data, processes, progress)
        validation = cross_validate(data, fits, processes, progress)
    for profile in carded_profiles(fits, validation):
        path = output / f"{profile.name.replace('/', '__')}.yaml"
        write_atomically(path, dump_profile(profile))
        typer.echo(str(path))
