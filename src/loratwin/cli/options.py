"""Options that several commands take, and what becomes of `--json`."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

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

Processes = Annotated[int, typer.Option("--processes", min=1, help="Processes to use.")]
HtmlFile = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write one self-contained HTML file.", metavar="FILE.html"),
]
SloChecked = Annotated[str | None, typer.Option("--slo", help="Limits to check, as ttft_p99=2s,tpot_p99=100ms.")]
SloKept = Annotated[
    str | None, typer.Option("--slo", help="Limits to keep, as ttft_p99=2s,tpot_p99=100ms.", show_default=False)
]
Workload = Annotated[str, typer.Argument(help="Workload file, example:NAME, or a record to replay.")]
Workloads = Annotated[
    list[str],
    typer.Argument(
        help="Workload file, example:NAME, or a record to replay; several, or a folder of files: one table.",
        show_default=False,
    ),
]
ProfileGiven = Annotated[
    str, typer.Option("--profile", help="GPU, engine version and LLM; or a profile file.", show_default=False)
]
ProfileOrLine = Annotated[
    str | None,
    typer.Option(
        "--profile",
        help="Profile (GPU/engine/LLM, see `loratwin profiles list`) or its file; by default that of --serve's server.",
        show_default=False,
    ),
]
LineGpu = Annotated[
    str | None,
    typer.Option(
        "--gpu", help="GPU of --serve's server, instead of --profile; its speed is assumed if nothing was measured."
    ),
]
LoraFolder = Annotated[
    Path | None,
    typer.Option(help="Folder of the adapters (PEFT): tells their ranks; what the server refuses is refused."),
]
ServerCommand = Annotated[
    str | None,
    typer.Option("--server-command", help="What the arguments are appended to. Default: the engine's own command."),
]
StartTimeout = Annotated[float, typer.Option("--start-timeout", help="Seconds that a server may take to start.")]
ApiKeyEnv = Annotated[
    str, typer.Option("--api-key-env", help="Environment variable with the API key, if there is one.")
]
RunsOn = Annotated[str, typer.Option("--on", help="Where to run: local, slurm, or dask://HOST:PORT.")]
SlurmMinutes = Annotated[int, typer.Option("--minutes", min=1, help="slurm: time limit of each job.")]
SlurmPartition = Annotated[str | None, typer.Option("--partition", help="slurm: partition.")]

STDOUT = Path("-")

JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="[FILE|-]",
        help="As JSON: on standard output instead of the text, or into a FILE (.json) beside it.",
        show_default=False,
    ),
]
CsvFolder = Annotated[
    Path | None,
    typer.Option(
        "--csv", metavar="FOLDER", help="Write every table as a CSV file into a folder, too.", show_default=False
    ),
]


def with_json_value(arguments: Sequence[str]) -> list[str]:
    """The words of a command line in which `--json` has a value: `-` unless a word that ends in `.json` follows.

    So a workload may follow it, and `--json=FILE` takes any name.
    """
    words: list[str] = []
    for i, word in enumerate(arguments):
        if word == "--":
            return [*words, *arguments[i:]]
        words.append(word)
        following = arguments[i + 1] if i + 1 < len(arguments) else ""
        if word == "--json" and following != "-" and not following.endswith(".json"):
            words.append("-")
    return words


def prints_json(json: Path | None) -> bool:
    """Whether standard output is JSON alone: then everything else goes to stderr."""
    return json == STDOUT


def check_json(json: Path | None, others: Iterable[Path | None] = (), inputs: Iterable[str | Path] = ()) -> None:
    """Refuse before long work what `records.check_json_file` refuses, where JSON goes into a file."""
    from loratwin.records import check_json_file

    if json is not None and json != STDOUT:
        check_json_file(json, filter(None, others), inputs)


def show(json: Path | None, text: Callable[[], Any], data: Callable[[], Any]) -> None:
    """Print a result as text, as JSON, or as text with the JSON in a file.

    Parameters
    ----------
    text
        Prints, or gives what is to be printed.
    data
        Plain data, as JSON takes it; names have units (`loratwin.units`).
    """
    from loratwin.units import with_units

    document = "" if json is None else json_format.dumps(with_units(data()), indent=1, allow_nan=False)
    if prints_json(json):
        typer.echo(document)
        return
    if (shown := text()) is not None:
        typer.echo(shown)
    if json is not None:
        from loratwin.records import write_atomically

        write_atomically(json, document + "\n")
