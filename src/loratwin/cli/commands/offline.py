"""`loratwin offline`: batches in phases on vLLM, in its own Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loratwin.lists import whole_numbers
from loratwin.progress import staged_progress


def offline(
    folder: Annotated[Path, typer.Argument(help="Folder for the records; batches whose record is there are kept.")],
    server_args: Annotated[str, typer.Option(help="vLLM's arguments, in one string, with --model.")],
    python: Annotated[str, typer.Option(help="A Python with vLLM.")] = "python3",
    batches: Annotated[str, typer.Option(help="Requests in a batch.")] = "1,8,32",
    prompt: Annotated[str, typer.Option(help="Tokens of each prompt.")] = "128",
    output: Annotated[str, typer.Option(help="Tokens of each output.")] = "64",
    adapters: Annotated[str, typer.Option(help="Distinct adapters in the batch; 0: none.")] = "0",
    ranks: Annotated[str | None, typer.Option(help="Ranks of these adapters. Default: whichever come first.")] = None,
    lora_folder: Annotated[Path | None, typer.Option(help="Adapters: a folder of `loratwin adapters make`.")] = None,
    nvtx: Annotated[bool, typer.Option("--nvtx", help="NVTX ranges for phases and steps (package nvtx).")] = False,
    torch_profile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Trace of torch.profiler, .json or .json.gz.")
    ] = None,
) -> None:
    """Run batches in phases (all prompts, then all decode), each a record with its engine steps.

    For example: loratwin offline records --server-args "--model tiny" --python vllm/bin/python --batches 1,8,32
    """
    from loratwin.offline import batch_grid, measure_offline, offline_text

    asked = [
        whole_numbers(name, text)
        for name, text in (
            ("--batches", batches), ("--prompt", prompt), ("--output", output), ("--adapters", adapters),
            *((("--ranks", ranks),) if ranks else ()),
        )
    ]  # fmt: skip
    with staged_progress() as progress:
        result = measure_offline(
            batch_grid(*asked), server_args, folder, python=python, lora_folder=lora_folder, nvtx=nvtx,
            torch_profile=torch_profile, progress=progress,
        )  # fmt: skip
    for line in offline_text(result):
        typer.echo(line)
