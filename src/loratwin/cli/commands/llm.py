"""`loratwin llm`: what is known of an LLM; a small random LLM to try a server with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loratwin.cli.groups import command_group
from loratwin.cli.options import JsonFile, check_json
from loratwin.cli.options import show as show_result

app = command_group("LLMs: what is known of one; small random ones, to try servers with.")


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="LLM: a name, as llama-3.1-8b-instruct, a repository, or a folder with a config.json.")
    ],
    engine: Annotated[str | None, typer.Option("--engine", help="Version of vLLM; vllm-0.32.0 unless given.")] = None,
    tensor_parallel: Annotated[int, typer.Option("--tensor-parallel", min=1, help="GPUs that share the LLM.")] = 1,
    json: JsonFile = None,
) -> None:
    """Show what an LLM is made of: parameters, weights, what a request keeps, adapters' slots, context, speed.

    For example: loratwin llm show Qwen/Qwen3-30B-A3B --tensor-parallel 2
    """
    from loratwin.llms import llm_facts
    from loratwin.report import llm_text

    check_json(json)
    facts = llm_facts(name, engine, tensor_parallel)
    show_result(json, lambda: llm_text(facts), facts.as_plain)


@app.command()
def make(
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")],
    architecture: Annotated[str, typer.Option(help="llama, qwen2, qwen3, gemma or mixtral.")] = "llama",
    hidden: Annotated[int, typer.Option(help="Hidden size.")] = 128,
    layers: Annotated[int, typer.Option(help="Layers.")] = 2,
    heads: Annotated[int, typer.Option(help="Attention heads.")] = 4,
    kv_heads: Annotated[int, typer.Option(help="Heads of keys and values.")] = 2,
    intermediate: Annotated[int, typer.Option(help="Intermediate size.")] = 256,
    vocab: Annotated[int, typer.Option(help="Vocabulary, at least 259.")] = 2048,
    max_model_len: Annotated[int, typer.Option(help="Longest prompt + output.")] = 2048,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights.")] = 0,
    no_weights: Annotated[
        bool, typer.Option("--no-weights", help="Leave the weights out, for servers with --load-format dummy.")
    ] = False,
) -> None:
    """Make an LLM with random weights and a tokenizer; vLLM loads it as any other. Nothing is downloaded.

    For example: loratwin llm make tiny
    """
    from loratwin.synthetic import NewLlm, make_llm

    new = NewLlm(
        architecture=architecture,  # type: ignore[arg-type]
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        intermediate_size=intermediate,
        vocab_size=vocab,
        max_model_len=max_model_len,
        dtype=dtype,  # type: ignore[arg-type]
        weights=not no_weights,
        seed=seed,
    )
    shapes = make_llm(folder, new)
    typer.echo(f"{folder}: {architecture}, {shapes.num_parameters / 1e6:.1f} million parameters")
