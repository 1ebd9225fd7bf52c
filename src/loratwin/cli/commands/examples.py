"""`loratwin examples`: the workload files that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loratwin.errors import InputError


def examples(
    name: Annotated[str | None, typer.Argument(help="Print this example.", show_default=False)] = None,
    copy: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Copy it to this folder instead, with the data that it reads, to edit it."),
    ] = None,
) -> None:
    """List the shipped example workloads, or print or copy one of them.

    For example: loratwin examples support-desk --copy .
    """
    if name is None and copy is not None:
        raise InputError("--copy needs the name of an example; `loratwin examples` lists them")
    from loratwin.workload import copy_example, example_path
    from loratwin.workload.examples import examples_text

    if name is None:
        typer.echo(examples_text())
    elif copy is None:
        typer.echo(example_path(name).read_text(encoding="utf-8"), nl=False)
    else:
        for path in copy_example(name, copy):
            typer.echo(path)
