"""vLLM: its options, what it takes by default, what it says of itself, and how a plan starts it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from loratwin.engines.engine import AdapterInfo, Deployment, Engine, Loading, Metric, ServerGpu, metrics
from loratwin.engines.option_names import listed_options
from loratwin.engines.options import COMMON, count, listed, share, switch, valued
from loratwin.engines.pages import labels, whole
from loratwin.engines.versions import (
    GENERATIONS,
    NAME,
    Device,
    Limits,
    default_limits,
    engine_version,
    limits_beside,
)
from loratwin.errors import DataError, InputError
from loratwin.http import Connection
from loratwin.records.config import KV_NUMBER_BYTES, EngineConfig

OPTIONS = {
    **COMMON,
    "model": valued("--model"),
    "lora_modules": listed("--lora-modules"),
    "max_loras": count("--max-loras"),
    "max_cpu_loras": count("--max-cpu-loras"),
    "fully_sharded_loras": switch("--fully-sharded-loras"),
    "max_num_seqs": count("--max-num-seqs"),
    "max_num_batched_tokens": count("--max-num-batched-tokens"),
    "max_model_len": count("--max-model-len"),
    "gpu_memory_utilization": share("--gpu-memory-utilization", "--device-memory-utilization"),
    "block_size": count("--block-size"),
    "kv_cache_memory_bytes": count("--kv-cache-memory-bytes"),
    "quantization": valued("--quantization", "-q"),
    "enforce_eager": switch("--enforce-eager"),
    "enable_prefix_caching": switch("--enable-prefix-caching"),
    "tensor_parallel": count("--tensor-parallel-size", "-tp"),
    "pipeline_parallel": count("--pipeline-parallel-size", "-pp"),
    "data_parallel": count("--data-parallel-size", "-dp"),
}
"""`engine/arg_utils.py`, `entrypoints/openai/cli_args.py` and, in 0.32.0, `entrypoints/launchers/cli_args.py`."""

CACHE_INFO = "vllm:cache_config_info"
"""Series of `/metrics` whose labels hold the configuration of the KV cache."""

METRICS = {
    **metrics(
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        kv_usage=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        prompt_tokens="vllm:prompt_tokens_total",
        prompt_tokens_cached="vllm:prompt_tokens_cached_total",
        prefix_queries="vllm:prefix_cache_queries_total",
        prefix_hits="vllm:prefix_cache_hits_total",
        prefix_query_blocks="vllm:gpu_prefix_cache_queries_total",  # 0.8.5; later in tokens, beside the ones above
        prefix_hit_blocks="vllm:gpu_prefix_cache_hits_total",
        generation_tokens="vllm:generation_tokens_total",
        preemptions="vllm:num_preemptions_total",
        requests_finished="vllm:request_success_total",
        slots_used="vllm:num_gpu_loaded_lora_adapters",
        max_loras="vllm:max_gpu_lora_adapters",
        ttft_s="vllm:time_to_first_token_seconds",
        itl_s=("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
        e2e_s="vllm:e2e_request_latency_seconds",
        queue_s="vllm:request_queue_time_seconds",
        prefill_s="vllm:request_prefill_time_seconds",
        decode_s="vllm:request_decode_time_seconds",
        tokens_per_step="vllm:iteration_tokens_total",
        prompt_lengths="vllm:request_prompt_tokens",
        output_lengths="vllm:request_generation_tokens",
    ),
    "waiting_deferred": (Metric("vllm:num_requests_waiting_by_reason", {"reason": "deferred"}),),
    "waiting_capacity": (Metric("vllm:num_requests_waiting_by_reason", {"reason": "capacity"}),),
}
"""engine.md 2.7."""

TTFT_BOUNDS_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560
)  # fmt: skip
"""engine.md 2.7."""


def kv_cache(said: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Tokens in a KV block, and tokens that the cache holds, from the labels of `CACHE_INFO`.

    Newer versions tell the size itself (`kv_cache_size_tokens`, by 0.25.1): with groups of layers, or blocks larger
    than those of the scheduler, blocks x tokens in a block is another number. Older ones tell only these two.
    """
    block, blocks = whole(said.get("block_size")), whole(said.get("num_gpu_blocks"))
    counted = block * blocks if block is not None and blocks is not None else None
    return block, whole(said.get("kv_cache_size_tokens")) or counted


def _tells(connection: Connection, page: str) -> dict[str, Any] | None:
    try:
        answer = connection.get_json("/version")
    except DataError:
        answer = None
    version = answer.get("version") if isinstance(answer, dict) else None
    if not version and not any(line.startswith("vllm:") for line in page.splitlines()):
        return None
    said = labels(page, CACHE_INFO)
    block_size, kv_tokens = kv_cache(said)
    told = {"version": str(version) if version else None, "block_size": block_size, "kv_tokens": kv_tokens}
    return told | _cache_settings(said)


def _cache_settings(said: Mapping[str, str]) -> dict[str, Any]:
    """What else the labels tell, where it is not as the engine has it unless told."""
    share_ = said.get("gpu_memory_utilization", "")
    found: dict[str, Any] = {}
    with suppress(ValueError):
        found["gpu_memory_utilization"] = float(share_)
    if said.get("cache_dtype", "auto") in KV_NUMBER_BYTES:
        found["kv_cache_dtype"] = said.get("cache_dtype")
    if said.get("enable_prefix_caching") == "False":  # where it is on, the twin asks the workload
        found["enable_prefix_caching"] = False
    return found


def _defaults(known: Mapping[str, Any], version: str, gpu: ServerGpu) -> dict[str, Any]:
    """engine.md 1.3 and 2.1; one adapter in a slot and as many in host memory unless told."""
    limits = limits_beside(_limits(version, gpu), known)
    return {"max_loras": 1, "max_cpu_loras": known.get("max_loras") or 1, **limits._asdict()}


def _limits(version: str, gpu: ServerGpu) -> Limits:
    """Of a version that nobody knows those of the newest."""
    device: Device = "cuda" if gpu.name else "cpu"
    with suppress(InputError):
        return default_limits(version, gpu.memory_gib, gpu.name, device)
    return default_limits("", gpu.memory_gib, gpu.name, device)


def _memory_share(version: str, total: float, replicas: int, i: int) -> float:
    """Up to 0.9.0 it subtracts all memory in use on the GPU, the other servers' too.

    `gpu_worker.py`: `determine_available_memory`, and since 0.9.1 `MemorySnapshot`, `memory_profiling`.
    """
    share_of_one = total / replicas
    with suppress(InputError):
        if engine_version(version) < (0, 9, 1):
            return share_of_one * (i + 1)
    return share_of_one


def adapter_word(name: str, path: str) -> str:
    """NAME=PATH on one line; names or paths that this cannot hold as JSON, which `LoRAParserAction` reads as well."""
    plain = name.isprintable() and not set(name + path) & set(",=")
    return f"{name}={path}" if plain else json.dumps({"name": name, "path": path})


_RUNTIME_ADAPTERS = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"

_VARIABLES = (
    r"VLLM_(?!LOG|CACHE_ROOT|CONFIG_ROOT|ASSETS|HOST_IP|PORT|.*USAGE|DO_NOT_TRACK|BUILD|IMAGE_TAG|.*(PATH|DIR|TIMEOUT)).+",
    r"OMP_NUM_THREADS|NCCL_.+|PYTORCH_(CUDA_)?ALLOC_CONF",
)
"""Beside them `envs.py` has names of places, of logs and of times to wait, which do not change a step."""

_CAVEATS_FIRST = (
    "The profile is of vLLM 0.8.5 (V1 engine) with prefix caching off. It is on by default; what prompts share is "
    "simulated where the workload says it (prefix, sessions), and is faster than simulated where it does not.",
)
_CAVEATS_SINCE = (
    "The profile is of vLLM 0.8.5: for later versions every figure is an extrapolation.",
    "Since 0.20 the memory of CUDA graphs counts towards --gpu-memory-utilization (3 GiB outside of it in "
    "0.8.5), whose default went from 0.9 to 0.92; fewer KV tokens are left than simulated.",
    "By 0.25 a request is admitted only when its whole prompt fits the KV cache; and idle slots cost less where "
    "graphs are specialised by active adapters (--specialize-active-lora, off by default).",
)
_CAVEATS_LATER = (
    "Prefix caching is on by default; what prompts share is simulated where the workload says it (prefix, sessions).",
    "For another version of vLLM than the profile's every figure is an extrapolation.",
)
"""For a profile of a later version than 0.8.5, which knows what that version does otherwise."""


def _deployments(version: str, kv_gib: float | None) -> tuple[Deployment, ...]:
    """Adapters can be added and removed while the server runs; 0.8.5 could fall back to its V0 engine unasked."""
    cpu = {} if kv_gib is None else {"VLLM_CPU_KVCACHE_SPACE": str(max(1, round(kv_gib)))}  # whole GiB in every version
    environment = {_RUNTIME_ADAPTERS: "True", **cpu}
    own = f"vLLM {version.removeprefix(f'{NAME}-')}"
    if engine_version(version) >= (0, 9, 0):
        return (Deployment("current", own, environment, _CAVEATS_LATER),)
    first = {_RUNTIME_ADAPTERS: "True", "VLLM_USE_V1": "1", **cpu}
    return (
        Deployment("0.8.5", own, first, _CAVEATS_FIRST),
        Deployment("current", "Current vLLM", environment, _CAVEATS_SINCE),
    )


VLLM = Engine(
    name=NAME,
    title="vLLM",
    module="vllm.entrypoints.openai.api_server",
    program=("vllm", "serve"),
    options=OPTIONS,
    lora_is_on=lambda arguments: arguments.is_on("enable_lora"),
    default_lora_rank=int(EngineConfig.model_fields["max_lora_rank"].default),
    defaults=_defaults,
    memory_default=GENERATIONS[0].gpu_memory_utilization,
    memory_share=_memory_share,
    tells=_tells,
    logged={
        "kv_tokens": r"KV cache size: ([\d,]+) tokens",  # for a server without /metrics
        "max_num_batched_tokens": r"max_num_batched_tokens=(\d+)",  # 0.8.5 to about 0.11
    },
    metrics=METRICS,
    ttft_bounds_s=TTFT_BOUNDS_S,
    finished=(Metric("vllm:request_success_total"), "finished_reason"),
    adapter_info=AdapterInfo("vllm:lora_requests_info", "running_lora_adapters", "waiting_lora_adapters", "max_lora"),
    key_variable="VLLM_API_KEY",
    loading=Loading(
        "/v1/load_lora_adapter", f"start vLLM with --enable-lora and {_RUNTIME_ADAPTERS}=True in its environment"
    ),
    adapter_word=adapter_word,
    logs_steps=True,
    generations=GENERATIONS,
    deployments=_deployments,
    variables=_VARIABLES,
    image=("vllm/vllm-openai:v{version}", {"VLLM_NO_USAGE_STATS": "1"}),
    option_names=lambda: listed_options("vllm_options.txt"),
)
