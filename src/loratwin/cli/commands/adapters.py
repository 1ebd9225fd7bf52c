"""`loratwin adapters`: random LoRA adapters to benchmark with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loratwin.cli.groups import command_group
from loratwin.progress import staged_progress

app = command_group("Random LoRA adapters, to benchmark with.")


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
    from loratwin.synthetic import LINEAR_MODULES, make_adapters, read_llm_shapes, wanted_adapters

    new = wanted_adapters(count, ranks, name, workload)
    modules = LINEAR_MODULES if target_modules is None else tuple(word.strip() for word in target_modules.split(","))
    shapes = read_llm_shapes(llm)
    with staged_progress() as report:
        made = make_adapters(
            folder, shapes, new, target_modules=modules, dtype=dtype, seed=seed,  # type: ignore[arg-type]
            progress=lambda done, of: report("making adapters", done, of),
        )  # fmt: skip
    typer.echo(f"{folder}: {len(made)} adapters; the arguments of --lora-modules are in {folder / 'lora-modules.txt'}")
