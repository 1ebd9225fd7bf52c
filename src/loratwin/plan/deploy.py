"""From a plan to the command that starts the server. Pure text; nothing is started."""

from __future__ import annotations

import json
import shlex
from typing import Literal, NamedTuple, get_args

from loratwin.errors import InputError, UnknownNameError
from loratwin.llms import slot_bytes
from loratwin.perf.memory import GIB
from loratwin.plan.choice import Candidate
from loratwin.plan.plan import Plan
from loratwin.records.config import engine_version

Version = Literal["0.8.5", "current"]

ADAPTERS_FOLDER = "/adapters"
"""Where the adapters are assumed to lie, one folder of its name for each."""

MOST_LISTED = 8
"""Adapters that are written into the command; more go into a file that it reads."""

CAVEATS: dict[Version, tuple[str, ...]] = {
    "0.8.5": (
        "The profile is of vLLM 0.8.5 (V1 engine) with prefix caching off. It is on by default; prompts that share "
        "their beginning are then faster than simulated.",
    ),
    "current": (
        "The profile is of vLLM 0.8.5: for later versions every figure is an extrapolation.",
        "Since 0.20 the memory of CUDA graphs counts towards --gpu-memory-utilization (3 GiB outside of it in "
        "0.8.5), whose default went from 0.9 to 0.92; fewer KV tokens are left than simulated.",
        "By 0.25 a request is admitted only when its whole prompt fits the KV cache; and idle slots cost less where "
        "graphs are specialised by active adapters (--specialize-active-lora, off by default).",
    ),
}

LATER_CAVEATS = (
    "Prefix caching is not simulated. It is on by default; prompts that share their beginning are then faster.",
    "For another version of vLLM than the profile's every figure is an extrapolation.",
)
"""For a profile of a later version than 0.8.5, which knows what that version does otherwise."""


class Command(NamedTuple):
    """A way to run the plan."""

    title: str
    text: str
    remarks: tuple[str, ...]


def commands(plan: Plan) -> list[Command]:
    """The commands for the versions that the profile says something of, its own first; none without a configuration."""
    if plan.best is None:
        return []
    engine = plan.profile.engine.removeprefix("vllm-")
    whose = "on which the profile was measured" if plan.profile.origin == "fitted" else "for which it is assumed"
    own = f"vLLM {engine}, {whose}"
    if not _is_first(plan):
        return [Command(own, vllm_serve_command(plan, "current"), LATER_CAVEATS)]
    return [
        Command(own, vllm_serve_command(plan, "0.8.5"), CAVEATS["0.8.5"]),
        Command("Current vLLM", vllm_serve_command(plan, "current"), CAVEATS["current"]),
    ]


def versions(plan: Plan) -> tuple[Version, ...]:
    """The versions of `vllm_serve_command` that the profile says something of."""
    return ("0.8.5", "current") if _is_first(plan) else ("current",)


def _is_first(plan: Plan) -> bool:
    return engine_version(plan.profile.engine) < (0, 9, 0)


def vllm_serve_command(plan: Plan, version: Version = "0.8.5", adapters_folder: str = ADAPTERS_FOLDER) -> str:
    """The `vllm serve` lines for a plan, to be pasted into bash. All names are quoted.

    Up to `MOST_LISTED` adapters stand in the command; more are read from a file `lora-modules.txt` of lines NAME=PATH
    (see `lora_modules`).

    Raises
    ------
    InputError
        The plan has no configuration to run.
    UnknownNameError
        Another version.
    """
    if version not in get_args(Version):
        raise UnknownNameError("vLLM version", version, get_args(Version))
    if plan.best is None:
        raise InputError("the plan has no configuration to run")
    modules = lora_modules(plan, adapters_folder)
    many = len(modules) > MOST_LISTED
    listed = '"${modules[@]}"' if many else " ".join(shlex.quote(module) for module in modules)
    read = ["mapfile -t modules < lora-modules.txt"] if many else []
    lines = [*_start(plan, version), *_flags(plan, plan.best), f"  --lora-modules {listed}"]
    return "\n".join([*read, " \\\n".join(lines)])


def lora_modules(plan: Plan, adapters_folder: str = ADAPTERS_FOLDER) -> list[str]:
    """What `--lora-modules` takes for each adapter that the plan serves: NAME=PATH on one line. Not quoted.

    Names with a comma, an equals sign or an unprintable character are written as JSON, which vLLM reads as well
    (`LoRAParserAction`, `vllm/entrypoints/openai/cli_args.py`).
    """
    return [_module(name, f"{adapters_folder.rstrip('/')}/{name}") for name in plan.served_names]


def _module(name: str, path: str) -> str:
    plain = name.isprintable() and not set(name + path) & set(",=")
    return f"{name}={path}" if plain else json.dumps({"name": name, "path": path})


def caveats(version: Version) -> tuple[str, ...]:
    """What to know before the command is run with this version."""
    return CAVEATS[version]


def _start(plan: Plan, version: Version) -> list[str]:
    """Adapters can be added and removed while the server runs; 0.8.5 could fall back to its V0 engine unasked."""
    environment = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
    if version == "0.8.5":
        environment += " VLLM_USE_V1=1"
    if plan.profile.memory.kv_gib is not None:  # on a CPU; whole GiB are what every version reads
        environment += f" VLLM_CPU_KVCACHE_SPACE={max(1, round(plan.profile.memory.kv_gib))}"
    return [f"{environment} vllm serve {shlex.quote(repository(plan))}"]


def repository(plan: Plan) -> str:
    """Where the LLM's weights are found: what the profile says, else the LLM's name."""
    return plan.profile.llm.repository or plan.profile.llm.name


def host_memory_gib(plan: Plan) -> float:
    """Memory of the host that the served adapters take, GiB: each at its own rank (engine.md 2.2).

    Assumes adapters of all linear layers, as large as vLLM keeps them; those of fewer modules take less.
    """
    linear_only = plan.profile.llm.model_copy(update={"lora_on_vocabulary": False})
    return sum(slot_bytes(linear_only, plan.ranks[i], 0) for i in plan.served) / GIB


def _flags(plan: Plan, best: Candidate) -> list[str]:
    """All of them written out: vLLM's defaults (1 slot, rank 16, `max_cpu_loras` = slots) fit hardly any workload."""
    config = best.config
    served, gpus = len(plan.served), plan.profile.memory.tensor_parallel
    return [
        *([f"  --tensor-parallel-size {gpus}"] if gpus > 1 else []),
        f"  --enable-lora --max-loras {config.max_loras} --max-cpu-loras {config.host_cache(served)} "
        f"--max-lora-rank {config.max_lora_rank}",
        f"  --max-num-seqs {config.max_num_seqs} --max-num-batched-tokens {config.max_num_batched_tokens}",
        f"  --gpu-memory-utilization {config.gpu_memory_utilization:g} "
        f"--max-model-len {config.max_model_len or plan.profile.llm.max_model_len}",
    ]
