"""`loratwin memory`: where a server's memory goes, and whether it starts; no workload."""

from __future__ import annotations

from typing import Annotated

import typer

from loratwin.cli.groups import grouped
from loratwin.cli.options import JsonFile, ServerFlags, check_json, show
from loratwin.cli.serve import Serve
from loratwin.lists import whole_numbers


@grouped
def memory(
    *,
    gpu: Annotated[str, typer.Argument(help='GPU: a name, as h100-sxm, or as nvidia-smi prints it: "NVIDIA L40S".')],
    llm: Annotated[str, typer.Argument(help="LLM: a name, a repository, or a folder with a config.json.")],
    serve: Serve = None,
    engine: Annotated[str | None, typer.Option(help="Version of vLLM, as vllm-0.25.1. Default: vllm-0.32.0.")] = None,
    max_loras: Annotated[str, typer.Option(help="Slots, or several to compare: 8,16,32.")] = "0",
    max_lora_rank: Annotated[int, typer.Option(help="Rank of a slot.")] = 16,
    gpu_memory_gib: Annotated[float | None, typer.Option(help="Memory that the driver shows, GiB.")] = None,
    tensor_parallel: Annotated[
        int, typer.Option("--tensor-parallel", "--tensor-parallel-size", min=1, help="GPUs that share each layer.")
    ] = 1,
    max_num_seqs: Annotated[int | None, typer.Option(help="Requests in a batch.")] = None,
    flags: ServerFlags,
    sampler: Annotated[
        str | None, typer.Option(help="What draws tokens: pytorch or flashinfer. Default: the version's own.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Show where the memory of a server goes: weights, slots, activations, graphs, KV tokens, and whether it starts.

    For example: loratwin memory "NVIDIA L40S" llama-3.1-8b-instruct --engine vllm-0.25.1 --max-loras 8,16,32
    """
    from loratwin.perf import server_memory
    from loratwin.report import memory_text

    check_json(json)
    servers = [
        server_memory(
            gpu, llm, engine, gpu_memory_gib=gpu_memory_gib, tensor_parallel=tensor_parallel, sampler=sampler,
            max_loras=slots, max_lora_rank=max_lora_rank, max_num_seqs=max_num_seqs, **vars(flags),
        )
        for slots in whole_numbers("--max-loras", max_loras)
    ]  # fmt: skip
    show(json, lambda: memory_text(servers), lambda: [server.as_plain() for server in servers])
