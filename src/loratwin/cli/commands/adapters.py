"""`loratwin adapters`: random LoRA adapters to benchmark with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loratwin.errors import InputError

if TYPE_CHECKING:
    from loratwin.synthetic import NewAdapter

app = typer.Typer(help="Random LoRA adapters, to benchmark with.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keeps `make` a command of its own, although it is the only one."""


@app.command()
def make(
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")],
    llm: Annotated[Path, typer.Option(help="The LLM: its folder or config.json.")],
    count: Annotated[int | None, typer.Option(help="Number of adapters.")] = None,
    ranks: Annotated[str | None, typer.Option(help="Rank, or ranks given in turn (8,16). Default: 8.")] = None,
    name: Annotated[str | None, typer.Option(help="They are called NAME-0, NAME-1, ... Default: adapter.")] = None,
    workload: Annotated[
        str | None, typer.Option(help="Take names and ranks from this workload file (or example:NAME) instead.")
    ] = None,
    target_modules: Annotated[
        str | None, typer.Option(help="Layers with an adapter, as q_proj,v_proj. Default: all linear layers.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights.")] = 0,
) -> None:
    """Make LoRA adapters with random weights for an LLM, in PEFT's layout; an interrupted run goes on where it was.

    For example: loratwin adapters make adapters --llm tiny --count 300 --ranks 8,16
    """
    from loratwin.progress import staged_progress
    from loratwin.synthetic import LINEAR_MODULES, make_adapters, read_llm_shapes

    new = _wanted(count, ranks, name, workload)
    modules = LINEAR_MODULES if target_modules is None else tuple(_words(target_modules))
    shapes = read_llm_shapes(llm)
    with staged_progress() as report:
        made = make_adapters(
            folder, shapes, new, target_modules=modules, dtype=dtype, seed=seed,  # type: ignore[arg-type]
            progress=lambda done, of: report("making adapters", done, of),
        )  # fmt: skip
    typer.echo(f"{folder}: {len(made)} adapters; the arguments of --lora-modules are in {folder / 'lora-modules.txt'}")


def _wanted(count: int | None, ranks: str | None, name: str | None, workload: str | None) -> list[NewAdapter]:
    """Either those of a workload, or so many with a common name."""
    from loratwin.synthetic import from_workload, numbered
    from loratwin.workload import load_spec

    if workload is None:
        if count is None:
            raise InputError("say how many adapters (--count 300), or which (--workload FILE)")
        return numbered(name or "adapter", count, _numbers(ranks or "8"))
    if (count, ranks, name) != (None, None, None):
        raise InputError("--workload gives number, ranks and names; leave out --count, --ranks and --name")
    return from_workload(load_spec(workload))


def _numbers(text: str) -> list[int]:
    for word in _words(text):
        if not (word.isascii() and word.isdigit()):
            raise InputError(f"--ranks {text!r}: expected whole numbers, as 16 or 8,16")
    return [int(word) for word in _words(text)]


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]
