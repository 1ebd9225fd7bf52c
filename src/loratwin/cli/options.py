"""Options that several commands take, and what becomes of `--json`."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer


@dataclass(frozen=True)
class ServerFlags:
    """Flags of a server; what they mean: `loratwin.engines.flags`, `loratwin.perf.flags`."""

    max_num_batched_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a step. Default: the engine's on this GPU.")
    ] = None
    max_model_len: Annotated[int | None, typer.Option(min=1, help="Longest prompt + output. Default: the LLM's.")] = (
        None
    )
    gpu_memory_utilization: Annotated[
        float | None, typer.Option(help="Part of the GPU's memory to fill. Default: the engine's, 0.9 or 0.92.")
    ] = None
    fully_sharded_loras: Annotated[bool, typer.Option("--fully-sharded-loras", help="GPUs share adapters whole.")] = (
        False
    )
    enforce_eager: Annotated[bool, typer.Option("--enforce-eager", help="No CUDA graphs.")] = False
    kv_cache_dtype: Annotated[str, typer.Option(help="Numbers of keys and values: auto, fp8, ...")] = "auto"
    kv_cache_memory_bytes: Annotated[
        int | None, typer.Option(min=1, help="Size of the KV cache, whatever is left.")
    ] = None
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32.")] = "auto"
    quantization: Annotated[
        str | None, typer.Option(help="Weights of the LLM: fp8, awq, gptq, ...; by default its own.")
    ] = None
    pipeline_parallel: Annotated[
        int, typer.Option("--pipeline-parallel", "--pipeline-parallel-size", min=1, help="Stages of layers.")
    ] = 1


@dataclass(frozen=True)
class SimulatedServer(ServerFlags):
    """Flags of a server whose requests are simulated."""

    max_lora_rank: Annotated[
        int | None, typer.Option(help="Rank of the slots. Default: the smallest allowed that holds every adapter.")
    ] = None
    enable_prefix_caching: Annotated[
        bool | None,
        typer.Option(
            "--enable-prefix-caching/--no-enable-prefix-caching",
            help="Find KV blocks again. Default: where prompts share something.",
        ),
    ] = None

    @property
    def limits(self) -> dict[str, Any]:
        """What the plan's search has names of its own for."""
        return {name: getattr(self, name) for name in _LIMITS}

    @property
    def settings(self) -> dict[str, Any]:
        """The other fields of an `EngineConfig`."""
        return {name: value for name, value in vars(self).items() if name not in {*_LIMITS, "pipeline_parallel"}}


_LIMITS = ("max_num_batched_tokens", "max_model_len", "gpu_memory_utilization")

Processes = Annotated[int, typer.Option("--processes", min=1, help="Processes to use.")]
HtmlFile = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write one self-contained HTML file.", metavar="FILE.html")
]
SloChecked = Annotated[str | None, typer.Option("--slo", help="Limits to check, as ttft_p99=2s,tpot_p99=100ms.")]
SloKept = Annotated[
    str | None,
    typer.Option(
        "--slo",
        help="Limits to keep, as ttft_p99=2s,tpot_p99=100ms, instead of the workload's; groups with a slo keep theirs.",
    ),
]
Objective = Annotated[str, typer.Option("--objective", help="throughput, or latency (mean end to end).")]
Workload = Annotated[str, typer.Argument(help="Workload file, example:NAME, or a record to replay.")]
Workloads = Annotated[
    list[str],
    typer.Argument(
        help="Workload file, example:NAME, or a record to replay; several, or a folder of files: one table."
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
SlurmPartition = Annotated[str | None, typer.Option("--partition", help="slurm: partition.")]

STDOUT = Path("-")

JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="[FILE|-]",
        help="As JSON: on standard output instead of the text, or into a FILE (.json) beside it.",
    ),
]
CsvFolder = Annotated[
    Path | None, typer.Option("--csv", metavar="FOLDER", help="Write every table as a CSV file into a folder, too.")
]


@dataclass(frozen=True)
class Files:
    """Where a result goes besides the terminal."""

    output: HtmlFile = None
    csv: CsvFolder = None
    json: JsonFile = None

    def check(self, inputs: Iterable[str | Path] = ()) -> None:
        """Refuse before long work what could not be written after it, or would replace what is read."""
        from loratwin.report import check_outputs

        check_outputs(self.output, self.csv)
        check_json(self.json, (self.output,), inputs)

    def write(self, page: Callable[[Path], Path], tables: Callable[[Path], Sequence[Path]]) -> None:
        """Write the page and the tables that were asked for, and say where they are."""
        if self.output is not None:
            typer.echo(f"written: {page(self.output)}", err=prints_json(self.json))
        if self.csv is not None:
            typer.echo(f"written: {len(tables(self.csv))} tables in {self.csv}", err=prints_json(self.json))

    @property
    def instead(self) -> bool:
        """Whether a page or tables were asked for, of a command that prints its table else."""
        return self.output is not None or self.csv is not None


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
