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
    if name is None:
        _list()
    elif copy is None:
        _print(name)
    else:
        _copy(name, copy)


def _list() -> None:
    from loratwin.workload import example_names, example_path

    known = example_names()
    width = max((len(each) for each in known), default=0)
    for each in known:
        typer.echo(f"{each:{width}}  {first_comment(example_path(each))}".rstrip())


def _print(name: str) -> None:
    from loratwin.workload import example_path

    typer.echo(example_path(name).read_text(encoding="utf-8"), nl=False)


def _copy(name: str, folder: Path) -> None:
    """Copy an example and the data files of the same name, none of which may be there already."""
    from loratwin.records import write_atomically
    from loratwin.workload import example_path

    path = example_path(name)
    sources = sorted(path.parent.glob(f"{path.stem}.*"))
    for source in sources:
        if (folder / source.name).exists():
            raise InputError(f"{folder / source.name} is there already; nothing copied")
    for source in sources:
        typer.echo(write_atomically(folder / source.name, source.read_bytes()))


def first_comment(path: Path) -> str:
    """What a workload file says of itself: its first comment line that is not a directive for editors."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = (line.lstrip("# ").strip() for line in lines if line.startswith("#"))
    return next((text for text in comments if text and not text.startswith("yaml-language-server:")), "")
