"""Values of options that several commands take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from loratwin.errors import InputError

MaxLoraRank = Annotated[
    int | None,
    typer.Option("--max-lora-rank", help="Rank of the slots. Default: the smallest allowed that holds every adapter."),
]
FullyShardedLoras = Annotated[bool, typer.Option("--fully-sharded-loras", help="GPUs share adapters whole.")]
EnforceEager = Annotated[bool, typer.Option("--enforce-eager", help="No CUDA graphs.")]
EnablePrefixCaching = Annotated[
    bool | None,
    typer.Option(
        "--enable-prefix-caching/--no-enable-prefix-caching",
        help="Find KV blocks again. Default: where prompts share something.",
        show_default=False,
    ),
]
KvCacheDtype = Annotated[str, typer.Option("--kv-cache-dtype", help="Numbers of keys and values: auto, fp8, ...")]
KvCacheMemoryBytes = Annotated[
    int | None, typer.Option("--kv-cache-memory-bytes", min=1, help="Size of the KV cache, whatever is left.")
]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, bfloat16, float16 or float32.")]
Quantization = Annotated[
    str | None, typer.Option("--quantization", help="Weights of the LLM: fp8, awq, gptq, ...; by default its own.")
]
PipelineParallel = Annotated[
    int, typer.Option("--pipeline-parallel", "--pipeline-parallel-size", min=1, help="Stages of layers.")
]
"""Flags of a server that commands share; what they mean: `loratwin.engines.flags`, `loratwin.perf.flags`."""


def whole_numbers(option: str, texts: str | Sequence[str]) -> list[int]:
    """`8,16`, or several of these, as numbers, each once, in the order given.

    Raises
    ------
    InputError
        Something between the commas is no whole number.
    """
    texts = [texts] if isinstance(texts, str) else texts
    parts = [part.strip() for text in texts for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdigit()):
            raise InputError(f"{option} {part!r}: expected whole numbers, as 16 or 8,16,32")
    return list(dict.fromkeys(int(part) for part in parts))


def numbers_by_name(option: str, text: str) -> dict[str, float]:
    """`queue=2,kv=0.5` as numbers by name.

    Raises
    ------
    InputError
        A part is not NAME=NUMBER.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise InputError(f"{option} {part.strip()!r}: expected NAME=NUMBER, as queue=2,kv=0.5") from None
    return found
