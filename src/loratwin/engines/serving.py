"""What differs between the engines: commands, names of options, and what a running server tells of itself."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.options import SECRETS, Option, count, listed, share, switch, valued
from loratwin.engines.told import CACHE_INFO, kv_cache, sglang_info, whole
from loratwin.engines.versions import GENERATIONS
from loratwin.errors import InputError, UnknownNameError
from loratwin.http import ask, bearer
from loratwin.records import Provenance

EngineName = Literal["vllm", "sglang"]


@dataclass(frozen=True)
class Facts:
    """What a running server says of itself; None where it does not say."""

    version: str | None = None
    kv_tokens: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    block_size: int | None = None


@dataclass(frozen=True)
class Engine:
    """One engine."""

    name: EngineName
    module: str
    memory_default: float
    """Share of memory that it fills when nothing is said; for SGLang an assumption, as it depends on the GPU."""
    options: Mapping[str, Option]
    """By the names that all engines share: those of `EngineConfig` where it has such a field."""
    facts: Callable[[str, str, str | None], Facts]
    """From URL, log text and API key."""


def engine(name: str) -> Engine:
    """The engine of this name.

    Raises
    ------
    UnknownNameError
        There is none.
    """
    if name not in ENGINES:
        raise UnknownNameError("engine", name, ENGINES)
    return ENGINES[name]


def recorded_arguments(provenance: Provenance) -> ServerArguments:
    """The arguments in a record, as those of the engine that it names; of vLLM where it names none."""
    name = provenance.engine_version.partition("-")[0]
    return ServerArguments(ENGINES.get(name, ENGINES["vllm"]), provenance.server_args)


def default_command(engine: Engine) -> list[str]:
    """The engine in this Python's environment, else vLLM's program on PATH.

    Raises
    ------
    InputError
        Neither is there.
    """
    if importlib.util.find_spec(engine.name) is not None:
        return [sys.executable, "-m", engine.module]
    program = shutil.which("vllm") if engine.name == "vllm" else None
    if program is None:
        raise InputError(
            f"{engine.name} is not installed for {sys.executable}: install it there, or give the command "
            "that starts it (--server-command)"
        )
    return [program, "serve"]


def full_command(arguments: ServerArguments, command: Sequence[str] | None = None) -> list[str]:
    """What starts the server: `vllm serve` takes the LLM first and without an option, everything else the option.

    Parameters
    ----------
    command
        What the arguments are appended to; None: the engine's own.

    Raises
    ------
    InputError
        The arguments name no LLM, or as `default_command`.
    """
    model, rest = arguments.model, arguments.without("model").words
    command = command or default_command(arguments.engine)
    if len(command) >= 2 and command[-1] == "serve":
        return [*command, model, *rest]
    return [*command, arguments.engine.options["model"].name, model, *rest]


def _vllm_facts(url: str, log: str, api_key: str | None) -> Facts:
    version = ask(url, "/version").json()
    models = ask(url, "/v1/models", headers=bearer(api_key)).json()
    block_size, kv_tokens = kv_cache(_cache_config(ask(url, "/metrics").text))
    return Facts(
        version=str(version["version"]) if isinstance(version, dict) and "version" in version else None,
        kv_tokens=kv_tokens or _logged(r"KV cache size: ([\d,]+) tokens", log),  # the log: without /metrics
        max_model_len=whole(_first(models).get("max_model_len")),
        max_num_batched_tokens=_logged(r"max_num_batched_tokens=(\d+)", log),  # 0.8.5 to about 0.11
        block_size=block_size,
    )


def _cache_config(metrics: str) -> dict[str, str]:
    """Labels of `CACHE_INFO`; none of them holds a quotation mark."""
    line = next((line for line in metrics.splitlines() if line.startswith(CACHE_INFO + "{")), "")
    return dict(re.findall(r'(\w+)="([^"]*)"', line))


def _sglang_facts(url: str, log: str, api_key: str | None) -> Facts:
    answers = (ask(url, path, headers=bearer(api_key)).json() for path in ("/server_info", "/get_server_info"))
    found = next((answer for answer in answers if isinstance(answer, dict) and "version" in answer), {})
    info = sglang_info(found)
    models = ask(url, "/v1/models", headers=bearer(api_key)).json()
    return Facts(
        version=info.get("version"),
        kv_tokens=info.get("kv_tokens") or _logged(r"max_total_num_tokens=(\d+)", log),
        max_model_len=whole(_first(models).get("max_model_len")) or _logged(r"context_len=(\d+)", log),
        max_num_seqs=info.get("max_num_seqs") or _logged(r"max_running_requests=(\d+)", log),
        max_num_batched_tokens=info.get("max_num_batched_tokens") or _logged(r"chunked_prefill_size=(\d+)", log),
        block_size=info.get("block_size"),
    )


def _first(models: object) -> dict[str, object]:
    data = models.get("data") if isinstance(models, dict) else None
    return data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else {}


def _logged(pattern: str, log: str) -> int | None:
    found = re.findall(pattern, log)
    return whole(found[-1].replace(",", "")) if found else None


_COMMON = {
    "host": valued("--host"),
    "port": count("--port"),
    "config": valued("--config"),
    "max_lora_rank": count("--max-lora-rank"),
    "enable_lora": switch("--enable-lora"),
    "dtype": valued("--dtype"),
    "kv_cache_dtype": valued("--kv-cache-dtype"),
    **SECRETS,
}

ENGINES: dict[str, Engine] = {
    "vllm": Engine(
        name="vllm",
        module="vllm.entrypoints.openai.api_server",
        memory_default=GENERATIONS[0].gpu_memory_utilization,  # the least of all: the version is not known yet
        options={
            **_COMMON,
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
            "quantization": valued("--quantization", "-q"),
            "enforce_eager": switch("--enforce-eager"),
            "tensor_parallel": count("--tensor-parallel-size", "-tp"),
            "pipeline_parallel": count("--pipeline-parallel-size", "-pp"),
            "data_parallel": count("--data-parallel-size", "-dp"),
        },
        facts=_vllm_facts,
    ),
    "sglang": Engine(
        name="sglang",
        module="sglang.launch_server",
        memory_default=0.85,
        options={
            **_COMMON,
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
        },
        facts=_sglang_facts,
    ),
}
