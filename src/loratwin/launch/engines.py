"""What differs between the engines: commands, names of options, and what a running server tells of itself."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from loratwin.errors import InputError, UnknownNameError
from loratwin.launch import arguments
from loratwin.launch.http import ask

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
    info = _cache_config(ask(f"{url}/metrics").text)
    return Facts(
        version=str(version["version"]) if isinstance(version, dict) and "version" in version else None,
        kv_tokens=_vllm_kv_tokens(info, log),
        max_model_len=_whole(_first(models).get("max_model_len")),
        max_num_batched_tokens=_logged(r"max_num_batched_tokens=(\d+)", log),  # 0.8.5 to about 0.11
        block_size=_whole(info.get("block_size")),
    )


def _vllm_kv_tokens(info: dict[str, str], log: str) -> int | None:
    """The size itself (newer versions), or blocks x tokens in a block, or the line in the log (without /metrics)."""
    blocks, size = _whole(info.get("num_gpu_blocks")), _whole(info.get("block_size"))
    told = _whole(info.get("kv_cache_size_tokens"))
    counted = blocks * size if blocks is not None and size is not None else None
    return told or counted or _logged(r"KV cache size: ([\d,]+) tokens", log)


def _cache_config(metrics: str) -> dict[str, str]:
    """Labels of `vllm:cache_config_info`; none of them holds a quotation mark."""
    line = next((line for line in metrics.splitlines() if line.startswith("vllm:cache_config_info{")), "")
    return dict(re.findall(r'(\w+)="([^"]*)"', line))


def _sglang_facts(url: str, log: str, api_key: str | None) -> Facts:
    answers = (ask(f"{url}/{path}", api_key=api_key).json() for path in ("server_info", "get_server_info"))
    info = next((answer for answer in answers if isinstance(answer, dict) and "version" in answer), {})
    kv_tokens = _whole(info.get("max_total_num_tokens")) or _logged(r"max_total_num_tokens=(\d+)", log)
    models = ask(f"{url}/v1/models", api_key=api_key).json()
    return Facts(
        version=str(info["version"]) if "version" in info else None,
        kv_tokens=kv_tokens,
        max_model_len=_whole(_first(models).get("max_model_len")) or _logged(r"context_len=(\d+)", log),
        max_num_seqs=_whole(info.get("max_running_requests")) or _logged(r"max_running_requests=(\d+)", log),
        max_num_batched_tokens=_whole(info.get("chunked_prefill_size")) or _logged(r"chunked_prefill_size=(\d+)", log),
        block_size=_whole(info.get("page_size")),
    )


def _first(models: object) -> dict[str, object]:
    data = models.get("data") if isinstance(models, dict) else None
    return data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else {}


def _logged(pattern: str, log: str) -> int | None:
    found = re.findall(pattern, log)
    return _whole(found[-1].replace(",", "")) if found else None


def _whole(value: object) -> int | None:
    """A whole number above 0, given as number or text; None for anything else ("None", -1, 12.5)."""
    try:
        number = int(str(value))
    except ValueError:
        return None
    return number if number > 0 else None


ENGINES: dict[str, Engine] = {
    "vllm": Engine(
        name="vllm",
        module="vllm.entrypoints.openai.api_server",
        model_options=("--model",),
        memory_option="--gpu-memory-utilization",
        memory_default=0.9,
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
