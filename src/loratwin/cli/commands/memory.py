"""`loratwin memory`: where a server's memory goes, and whether it starts; no workload."""

from __future__ import annotations

from typing import Annotated

import typer

from loratwin.cli.options import (
    Dtype,
    EnforceEager,
    FullyShardedLoras,
    JsonFile,
    KvCacheDtype,
    KvCacheMemoryBytes,
    PipelineParallel,
    Quantization,
    check_json,
    show,
)
from loratwin.cli.serve import Serve
from loratwin.lists import whole_numbers


def memory(
    gpu: Annotated[str, typer.Argument(help='GPU: a name, as h100-sxm, or as nvidia-smi prints it: "NVIDIA L40S".')],
    llm: Annotated[str, typer.Argument(help="LLM: a name, a repository, or a folder with a config.json.")],
    serve: Serve = None,
    engine: Annotated[str | None, typer.Option("--engine", help="Version of vLLM, as vllm-0.25.1.")] = None,
    max_loras: Annotated[str, typer.Option("--max-loras", help="Slots, or several to compare: 8,16,32.")] = "0",
    max_lora_rank: Annotated[int, typer.Option("--max-lora-rank", help="Rank of a slot.")] = 16,
    fully_sharded_loras: FullyShardedLoras = False,
    gpu_memory_gib: Annotated[
        float | None, typer.Option("--gpu-memory-gib", help="Memory that the driver shows, GiB.")
    ] = None,
    gpu_memory_utilization: Annotated[
        float | None, typer.Option("--gpu-memory-utilization", help="Part of it that the server may fill.")
    ] = None,
    tensor_parallel: Annotated[
        int, typer.Option("--tensor-parallel", "--tensor-parallel-size", min=1, help="GPUs that share each layer.")
    ] = 1,
    pipeline_parallel: PipelineParallel = 1,
    max_num_seqs: Annotated[int | None, typer.Option("--max-num-seqs", help="Requests in a batch.")] = None,
    max_num_batched_tokens: Annotated[
        int | None, typer.Option("--max-num-batched-tokens", help="Tokens in a step.")
    ] = None,
    max_model_len: Annotated[int | None, typer.Option("--max-model-len", help="Longest request, tokens.")] = None,
    enforce_eager: EnforceEager = False,
    kv_cache_dtype: KvCacheDtype = "auto",
    kv_cache_memory_bytes: KvCacheMemoryBytes = None,
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    sampler: Annotated[
        str | None, typer.Option(help="What draws tokens: pytorch or flashinfer. Default: the version's own.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Show where the memory of a server goes: weights, slots, activations, graphs, KV tokens, and whether it starts.

    For example: loratwin memory "NVIDIA L40S" llama-3.1-8b-instruct --engine vllm-0.25.1 --max-loras 8,16,32
    """
    from loratwin.engines.versions import UNTOLD
    from loratwin.perf import server_memory
    from loratwin.report import memory_text

    check_json(json)
    servers = [
        server_memory(
            gpu, llm, engine or UNTOLD, gpu_memory_gib=gpu_memory_gib, tensor_parallel=tensor_parallel,
            pipeline_parallel=pipeline_parallel, dtype=dtype, quantization=quantization or "", sampler=sampler,
            max_loras=slots, max_lora_rank=max_lora_rank,
            fully_sharded_loras=fully_sharded_loras, gpu_memory_utilization=gpu_memory_utilization,
            max_num_seqs=max_num_seqs, max_num_batched_tokens=max_num_batched_tokens, max_model_len=max_model_len,
            enforce_eager=enforce_eager, kv_cache_dtype=kv_cache_dtype, kv_cache_memory_bytes=kv_cache_memory_bytes,
        )
        for slots in whole_numbers("--max-loras", max_loras)
    ]  # fmt: skip
    show(json, lambda: memory_text(servers), lambda: [server.as_plain() for server in servers])
