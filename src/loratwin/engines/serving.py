"""What differs between the engines: commands, names of options, and what a running server tells of itself."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from loratwin.engines import arguments
from loratwin.engines.http import ask
from loratwin.engines.told import CACHE_INFO, kv_cache, sglang_info, whole
from loratwin.engines.versions import GENERATIONS
from loratwin.errors import InputError, UnknownNameError

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
    """One engine. Names of options are without the value; a field of `EngineConfig` may have several."""

    name: EngineName
    module: str
    model_options: tuple[str, ...]
    memory_option: str
    memory_default: float
    """Share of memory that it fills when nothing is said; for SGLang an assumption, as it depends on the GPU."""
    options: dict[str, tuple[str, ...]]
    """Field of `EngineConfig` -> options."""
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


def take_model(engine: Engine, given: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The LLM and the other arguments. It is given as an option, or first and without one as `vllm serve` has it.

    Raises
    ------
    InputError
        There is none.
    """
    model = arguments.option(given, *engine.model_options)
    if model:
        return model, arguments.without(given, *engine.model_options)
    if given and not given[0].startswith("-"):
        return given[0], tuple(given[1:])
    raise InputError(f"the server arguments name no LLM: add {engine.model_options[0]} FOLDER-OR-NAME")


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


def full_command(engine: Engine, command: Sequence[str], model: str, rest: Sequence[str]) -> list[str]:
    """`vllm serve` takes the LLM first and without an option, everything else takes the option."""
    if len(command) >= 2 and command[-1] == "serve":
        return [*command, model, *rest]
    return [*command, engine.model_options[0], model, *rest]


def _vllm_facts(url: str, log: str, api_key: str | None) -> Facts:
    version = ask(f"{url}/version").json()
    models = ask(f"{url}/v1/models", api_key=api_key).json()
    block_size, kv_tokens = kv_cache(_cache_config(ask(f"{url}/metrics").text))
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
    answers = (ask(f"{url}/{path}", api_key=api_key).json() for path in ("server_info", "get_server_info"))
    found = next((answer for answer in answers if isinstance(answer, dict) and "version" in answer), {})
    info = sglang_info(found)
    models = ask(f"{url}/v1/models", api_key=api_key).json()
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


ENGINES: dict[str, Engine] = {
    "vllm": Engine(
        name="vllm",
        module="vllm.entrypoints.openai.api_server",
        model_options=("--model",),
        memory_option="--gpu-memory-utilization",
        memory_default=GENERATIONS[0].gpu_memory_utilization,  # the least of all: the version is not known yet
        options={
            "max_loras": ("--max-loras",),
            "max_cpu_loras": ("--max-cpu-loras",),
            "max_lora_rank": ("--max-lora-rank",),
            "max_num_seqs": ("--max-num-seqs",),
            "max_num_batched_tokens": ("--max-num-batched-tokens",),
            "max_model_len": ("--max-model-len",),
            "gpu_memory_utilization": ("--gpu-memory-utilization",),
            "block_size": ("--block-size",),
        },
        facts=_vllm_facts,
    ),
    "sglang": Engine(
        name="sglang",
        module="sglang.launch_server",
        model_options=("--model-path", "--model"),
        memory_option="--mem-fraction-static",
        memory_default=0.85,
        options={
            "max_loras": ("--max-loras-per-batch",),
            "max_cpu_loras": ("--max-loaded-loras",),
            "max_lora_rank": ("--max-lora-rank",),
            "max_num_seqs": ("--max-running-requests",),
            "max_num_batched_tokens": ("--chunked-prefill-size",),
            "max_model_len": ("--context-length",),
            "gpu_memory_utilization": ("--mem-fraction-static",),
            "block_size": ("--page-size",),
        },
        facts=_sglang_facts,
    ),
}
