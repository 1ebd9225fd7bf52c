"""From a plan to the command that starts the server. Pure text; nothing is started."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.engine import Deployment, Engine
from loratwin.engines.registry import engine_of
from loratwin.errors import InputError, UnknownNameError
from loratwin.llms import slot_bytes
from loratwin.perf import Profile, ProfiledServer
from loratwin.perf.memory import GIB
from loratwin.plan.choice import Candidate
from loratwin.plan.result import Plan
from loratwin.records import EngineConfig

ADAPTERS_FOLDER = "/adapters"
"""Where the adapters are assumed to lie, one folder of its name for each."""

MOST_LISTED = 8
"""Adapters that are written into the command; more go into a file that it reads."""


class Command(NamedTuple):
    """A way to run the plan."""

    title: str
    text: str
    remarks: tuple[str, ...]


def commands(plan: Plan) -> list[Command]:
    """The commands for the versions that the profile says something of, its own first; none without a configuration."""
    if plan.best is None:
        return []
    whose = "on which the profile was measured" if plan.profile.origin == "fitted" else "for which it is assumed"
    profiled, *others = _deployments(plan)
    remarks = (*profiled.remarks, *_as_profiled(plan.profile))
    first = Command(f"{profiled.title}, {whose}", serve_command(plan, profiled.key), remarks)
    return [first, *(Command(one.title, serve_command(plan, one.key), one.remarks) for one in others)]


def versions(plan: Plan) -> tuple[str, ...]:
    """The versions of `serve_command` that the profile says something of, its own first."""
    return tuple(deployment.key for deployment in _deployments(plan))


def _engine(plan: Plan) -> Engine:
    return engine_of(plan.profile.engine)


def _deployments(plan: Plan) -> tuple[Deployment, ...]:
    """The version of the profile, first, in the environment of its servers."""
    first, *others = _engine(plan).deployments(plan.profile.engine, plan.profile.memory.kv_gib)
    server = plan.profile.server or ProfiledServer()
    theirs = dict(variable.partition("=")[::2] for variable in server.environment or ())
    return (first._replace(environment={**first.environment, **theirs}), *others)


def _as_profiled(profile: Profile) -> list[str]:
    """What is not known of the servers that were measured; of an assumed profile there were none."""
    if profile.origin == "assumed":
        return []
    server = profile.server or ProfiledServer()
    unknown = {"flags beside these (as --enforce-eager, --dtype)": server.options, "environment": server.environment}
    lines = []
    if missing := [what for what, known in unknown.items() if known is None]:
        lines.append(f"Not known of the server that was profiled: its {' and its '.join(missing)}.")
    if server.varied:
        lines.append(f"Some of the servers that were profiled had it, others not: {', '.join(server.varied)}.")
    return lines


def serve_command(plan: Plan, version: str | None = None, adapters_folder: str = ADAPTERS_FOLDER) -> str:
    """The lines that start the server of a plan, to be pasted into bash. All names are quoted.

    Up to `MOST_LISTED` adapters stand in the command; more are read from a file `lora-modules.txt` of lines NAME=PATH
    (see `lora_modules`).

    Parameters
    ----------
    version
        One of `versions`; None: the profile's own.

    Raises
    ------
    InputError
        The plan has no configuration to run.
    UnknownNameError
        Another version.
    """
    known = {deployment.key: deployment for deployment in _deployments(plan)}
    chosen = version or next(iter(known))
    if chosen not in known:
        raise UnknownNameError(f"{_engine(plan).title} version", chosen, known)
    if plan.best is None:
        raise InputError("the plan has no configuration to run")
    modules = lora_modules(plan, adapters_folder)
    many = len(modules) > MOST_LISTED
    listed = '"${modules[@]}"' if many else " ".join(shlex.quote(module) for module in modules)
    read = ["mapfile -t modules < lora-modules.txt"] if many else []
    option = _engine(plan).options["lora_modules"].name
    flags = _flags(plan, plan.best)
    if chosen == next(iter(known)):
        theirs = profiled_options(plan.profile, " ".join(flags))
        flags += [f"  {' '.join(theirs)}"] if theirs else []
    lines = [_start(plan, known[chosen]), *flags, f"  {option} {listed}"]
    return "\n".join([*read, " \\\n".join(lines)])


def lora_modules(plan: Plan, adapters_folder: str = ADAPTERS_FOLDER) -> list[str]:
    """What the engine's option for adapters takes for each that the plan serves: NAME=PATH on one line. Not quoted."""
    word, folder = _engine(plan).adapter_word, adapters_folder.rstrip("/")
    return [word(name, f"{folder}/{name}") for name in plan.served_names]


def _start(plan: Plan, deployment: Deployment) -> str:
    environment = " ".join(f"{name}={shlex.quote(value)}" for name, value in deployment.environment.items())
    return f"{environment} {' '.join(_engine(plan).program)} {shlex.quote(repository(plan))}"


def repository(plan: Plan) -> str:
    """Where the LLM's weights are found: the folder or copy that was given, else what the profile says."""
    llm = plan.profile.llm
    return llm.given or llm.repository or llm.name


def host_memory_gib(plan: Plan) -> float:
    """Memory of the host that the served adapters take, GiB: each at its own rank (engine.md 2.2).

    Assumes adapters of all linear layers, as large as vLLM keeps them; those of fewer modules take less.
    """
    linear_only = plan.profile.llm.model_copy(update={"lora_on_vocabulary": False})
    return sum(slot_bytes(linear_only, plan.ranks[i], 0) for i in plan.served) / GIB


def _flags(plan: Plan, best: Candidate) -> list[str]:
    config = best.config
    if plan.without_cache is not None and config.enable_prefix_caching is None:
        config = config.replace(enable_prefix_caching=True)  # the engine's default, on which the figures rest
    empty = ServerArguments(_engine(plan))
    lines = server_options(plan.profile, config, len(plan.served))
    return [f"  {' '.join(empty.put(**line).words)}" for line in lines]


def profiled_options(profile: Profile, said: Sequence[str] | str) -> list[str]:
    """Options that the servers of the profile had, each with its value for a shell, beside those that are said."""
    if profile.server is None or not profile.server.options:
        return []
    engine = engine_of(profile.engine)
    given = ServerArguments(engine, said).fields_given
    theirs = ServerArguments(engine, " ".join(profile.server.options))
    return theirs.without(*filter(None, given)).shown_parts


def server_options(profile: Profile, config: EngineConfig, num_adapters: int) -> list[dict[str, object]]:
    """Options of a server that serves so many adapters, by the names that engines share; related ones together.

    All of them written out: vLLM's defaults (1 slot, rank 16, `max_cpu_loras` = slots) fit hardly any workload.
    """
    gpus = profile.memory.tensor_parallel
    lines: list[dict[str, object]] = [
        {"tensor_parallel": gpus} if gpus > 1 else {},
        {
            "enable_lora": True,
            "max_loras": config.max_loras,
            "max_cpu_loras": config.host_cache(num_adapters),
            "max_lora_rank": config.max_lora_rank,
        },
        {"max_num_seqs": config.max_num_seqs, "max_num_batched_tokens": config.max_num_batched_tokens},
        {
            "gpu_memory_utilization": f"{config.gpu_memory_utilization:g}",
            "max_model_len": config.max_model_len or profile.llm.max_model_len,
        },
    ]
    said = {name for line in lines for name in line}
    options = engine_of(profile.engine).options
    others = {name: getattr(config, name) for name in EngineConfig.model_fields if name in options}
    usual = {name: field.default for name, field in EngineConfig.model_fields.items()}
    lines.append({name: value for name, value in others.items() if name not in said and value != usual[name]})
    return [line for line in lines if line]
