"""SGLang (read in 0.5.23, engine.md 3.1): options, defaults, what it says of itself. The twin does not have it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from loratwin.engines.engine import Engine, Loading, ServerGpu, metrics
from loratwin.engines.options import COMMON, count, listed, share, switch, valued
from loratwin.engines.pages import whole
from loratwin.engines.versions import Limits, limits_beside
from loratwin.errors import DataError
from loratwin.http import Connection

OPTIONS = {
    **COMMON,
    "model": valued("--model-path", "--model"),
    "lora_modules": listed("--lora-paths"),
    "max_loras": count("--max-loras-per-batch"),
    "max_cpu_loras": count("--max-loaded-loras"),
    "max_num_seqs": count("--max-running-requests"),
    "max_num_batched_tokens": count("--chunked-prefill-size"),
    "max_model_len": count("--context-length"),
    "gpu_memory_utilization": share("--mem-fraction-static"),
    "block_size": count("--page-size"),
    "quantization": valued("--quantization"),
    "enforce_eager": switch("--disable-cuda-graph"),
    "tensor_parallel": count("--tensor-parallel-size", "--tp-size", "--tp"),
    "pipeline_parallel": count("--pipeline-parallel-size", "--pp-size", "--pp"),
    "data_parallel": count("--data-parallel-size", "--dp-size", "--dp"),
}
"""`srt/server_args.py`."""

METRICS = metrics(
    running="sglang:num_running_reqs",
    waiting="sglang:num_queue_reqs",
    kv_usage="sglang:token_usage",
    prompt_tokens="sglang:prompt_tokens_total",
    prompt_tokens_cached="sglang:cached_tokens_total",
    generation_tokens="sglang:generation_tokens_total",
    requests_finished="sglang:num_requests_total",
    slots_used="sglang:lora_pool_slots_used",
    max_loras="sglang:lora_pool_slots_total",
    ttft_s="sglang:time_to_first_token_seconds",
    itl_s=("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
    e2e_s="sglang:e2e_request_latency_seconds",
    queue_s="sglang:queue_time_seconds",
    prompt_lengths="sglang:prompt_tokens_histogram",
    output_lengths="sglang:generation_tokens_histogram",
)
"""Of preemptions it has only a gauge (`num_retracted_reqs`)."""

LIMITS = Limits(max_num_batched_tokens=8192, max_num_seqs=256, gpu_memory_utilization=0.85)
"""Taken for what depends on the GPU."""

MAX_LORAS = 8
"""Adapters in a batch; the base LLM counts as one."""

PAGE_TOKENS = 1


def _defaults(known: Mapping[str, Any], version: str, gpu: ServerGpu) -> dict[str, Any]:
    """All adapters in host memory."""
    return {"max_loras": MAX_LORAS, "block_size": PAGE_TOKENS, **limits_beside(LIMITS, known)._asdict()}


def server_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """What `/server_info` says, by field of `ServerFacts`; what it does not say is left out."""
    told = {
        "version": str(info["version"]) if info.get("version") is not None else None,
        "block_size": whole(info.get("page_size")),
        "kv_tokens": whole(info.get("max_total_num_tokens")),
        "max_loras": whole(info.get("max_loras_per_batch")) if info.get("enable_lora") else None,
        "max_model_len": whole(info.get("context_length")),
        "max_num_seqs": whole(info.get("max_running_requests")),
        "max_num_batched_tokens": whole(info.get("chunked_prefill_size")),
    }
    return {name: value for name, value in told.items() if value is not None}


def _tells(connection: Connection, page: str) -> dict[str, Any] | None:
    for path in ("/server_info", "/get_server_info"):  # the second is the older name
        try:
            info = connection.get_json(path)
        except DataError:
            continue
        if isinstance(info, dict) and "max_total_num_tokens" in info:
            return server_info(info)
    return None


def _memory_share(version: str, total: float, replicas: int, i: int) -> float:
    """`--mem-fraction-static` is a part of what is free when it starts. From the source; not tried on a GPU."""
    share_of_one = total / replicas
    return share_of_one / (1 - i * share_of_one)


def adapter_word(name: str, path: str) -> str:
    """NAME=PATH, split at the first =; other names as JSON, which `LoRAPathAction` reads as well."""
    plain = name.isprintable() and "=" not in name
    return f"{name}={path}" if plain else json.dumps({"lora_name": name, "lora_path": path})


SGLANG = Engine(
    name="sglang",
    title="SGLang",
    module="sglang.launch_server",
    program=(),
    options=OPTIONS,
    lora_is_on=lambda arguments: arguments.is_on("enable_lora") or "lora_modules" in arguments,
    defaults=_defaults,
    memory_default=LIMITS.gpu_memory_utilization,
    memory_share=_memory_share,
    tells=_tells,
    logged={
        "kv_tokens": r"max_total_num_tokens=(\d+)",
        "max_model_len": r"context_len=(\d+)",
        "max_num_seqs": r"max_running_requests=(\d+)",
        "max_num_batched_tokens": r"chunked_prefill_size=(\d+)",
    },
    metrics=METRICS,
    finished=None,
    adapter_info=None,
    rank_labels=("tp_rank", "pp_rank", "moe_ep_rank"),
    part_labels=("priority",),
    key_variable=None,
    loading=Loading("/load_lora_adapter", "start SGLang with --enable-lora"),
    adapter_word=adapter_word,
    logs_steps=False,
    generations=(),
    deployments=lambda version, kv_gib: (),
    image=("lmsysorg/sglang:v{version}", {}),
    option_names=frozenset,
)
