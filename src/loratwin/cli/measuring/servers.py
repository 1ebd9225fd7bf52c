"""The servers that `loratwin bench` measures: those at given addresses, or those that it starts itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from loratwin.bench import Target, assign_adapters, parse_url
from loratwin.errors import DataError, InputError
from loratwin.launch import Server, load_adapters, start_mps, start_replicas
from loratwin.launch.arguments import as_arguments
from loratwin.launch.config import engine_config
from loratwin.launch.engines import engine
from loratwin.probe import server_arguments
from loratwin.records import EngineConfig
from loratwin.synthetic import lora_modules_args, read_adapters
from loratwin.telemetry import ServerFacts, gpu_name, server_facts


@dataclass(frozen=True)
class Launch:
    """Servers to start.

    Parameters
    ----------
    command
        What the arguments are appended to; None: the engine's own.
    steps
        Log the engine's steps.
    lora_folder
        Adapters of `loratwin adapters make` to serve.
    """

    engine: str
    args: str
    command: str | None = None
    replicas: int = 1
    mps: bool = False
    steps: bool = False
    timeout_s: float = 600.0
    lora_folder: Path | None = None


@dataclass(frozen=True)
class Running:
    """Servers that answer.

    Parameters
    ----------
    kv_tokens
        Of each server.
    step_logs
        Folder of each server's step log; empty: none.
    """

    target: Target
    kv_tokens: tuple[int | None, ...]
    step_logs: tuple[Path, ...] = ()


def given_servers(
    urls: Sequence[str],
    wanted: Sequence[str],
    adapters: Sequence[str],
    headers: Mapping[str, str],
    engine_name: str,
    server_args: str | None,
    llm: str | None,
    lora_folder: Path | None = None,
) -> Running:
    """Ask servers at these addresses what they are; register the adapters of a folder first.

    Raises
    ------
    InputError
        One does not answer, or lacks an adapter.
    """
    endpoints = [parse_url(url).url for url in urls]
    for url in endpoints:
        if endpoints.count(url) > 1:
            raise InputError(f"--url {url} is given twice; each server counts once")
    if lora_folder is not None:
        _register(endpoints, lora_folder, headers)
    facts = [_facts(url, headers) for url in endpoints]
    config, note = _config(facts[0], engine_name, server_args)
    served = [name for name in facts[0].adapters if all(name in each.adapters for each in facts)]
    target = Target(
        urls=tuple(endpoints),
        names=(*_names(wanted, served, adapters), llm or _llm(facts[0], endpoints[0])),
        config=config,
        kv_tokens=facts[0].kv_tokens,
        engine_version=facts[0].engine_version,
        gpu=gpu_name(),
        notes=(note,),
    )
    return Running(_noted(target, wanted), tuple(each.kv_tokens for each in facts))


def _register(urls: Sequence[str], folder: Path, headers: Mapping[str, str]) -> None:
    """By `/v1/load_lora_adapter`; the servers must see the same folder."""
    made = {adapter.name: adapter.path for adapter in read_adapters(folder)}
    key = headers.get("Authorization", "").removeprefix("Bearer ") or None
    for url in urls:
        load_adapters(url, made, api_key=key)


def _names(wanted: Sequence[str], served: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    return assign_adapters(wanted, served, given) if wanted else ()


def _noted(target: Target, wanted: Sequence[str]) -> Target:
    """Say so where the server's names differ from the workload's."""
    pairs = [(name, served) for name, served in zip(wanted, target.names, strict=False) if name != served]
    if not pairs:
        return target
    note = f"{len(pairs)} adapters of the workload stand for others on the server: {pairs[0][0]} is {pairs[0][1]}, ..."
    return replace(target, notes=(*target.notes, note))


def _facts(url: str, headers: Mapping[str, str]) -> ServerFacts:
    try:
        return server_facts(url, headers)
    except DataError as error:
        raise InputError(f"no usable server at {url}: {error}{_hint(str(error))}") from None


def _hint(error: str) -> str:
    """What would be right, where the error alone does not say it."""
    if error.endswith(("HTTP 401", "HTTP 403")):
        return " (the API key is missing or wrong; it is taken from $OPENAI_API_KEY, or --api-key-env)"
    if "CERTIFICATE_VERIFY_FAILED" in error:
        return " (the environment variable SSL_CERT_FILE names a file with certificates to trust)"
    return ""


def _llm(facts: ServerFacts, url: str) -> str:
    if facts.llm is None:
        raise InputError(f"{url} does not name its LLM; give it: --llm NAME")
    return facts.llm


def _config(facts: ServerFacts, engine_name: str, server_args: str | None) -> tuple[EngineConfig, str]:
    """The configuration by what the user and the server say; the rest is vLLM's default, and the note says so."""
    if server_args is not None:
        config = engine_config(engine(engine_name), as_arguments(server_args))
        return config, "limits of the server as given by --server-args, not checked with it"
    known = {"max_loras": facts.max_loras, "block_size": facts.block_size, "max_model_len": facts.max_model_len}
    told = {name: value for name, value in known.items() if value is not None}
    missing = "all limits" if not told else f"all limits but {', '.join(told)}"
    note = f"the server does not tell {missing}: vLLM's defaults are assumed (--server-args says what it runs with)"
    return _tolerant({"max_loras": 1, **told}), note


def _tolerant(told: Mapping[str, int]) -> EngineConfig:
    try:
        return EngineConfig(**told)
    except InputError:
        return EngineConfig(max_loras=told["max_loras"])


@contextmanager
def launched_servers(
    launch: Launch, wanted: Sequence[str], adapters: Sequence[str], headers: Mapping[str, str], logs: Path
) -> Iterator[Running]:
    """Start servers, one after the other; they are gone afterwards.

    Raises
    ------
    InputError, ServerError
        They do not start, or lack an adapter.
    """
    with ExitStack() as stack:
        mps = stack.enter_context(start_mps(logs)) if launch.mps else None
        folders, args, env_of = _step_logs(launch, logs)
        args = [*args, *([] if launch.lora_folder is None else lora_modules_args(launch.lora_folder))]
        servers = stack.enter_context(
            start_replicas(
                launch.replicas, launch.engine, [*as_arguments(launch.args), *args], log_folder=logs, env_of=env_of,
                command=None if launch.command is None else as_arguments(launch.command),
                env={} if mps is None else mps.env, timeout_s=launch.timeout_s,
            )
        )  # fmt: skip
        if mps is not None:
            mps.check(servers)
        yield _running(servers, wanted, adapters, headers, folders, mps is not None)


def _step_logs(launch: Launch, logs: Path) -> tuple[tuple[Path, ...], list[str], Callable[[int], Mapping[str, str]]]:
    """Where each server logs its steps, the arguments that make it, and the environment of each."""
    if not launch.steps:
        return (), [], lambda i: {}
    folders = tuple(logs / f"steps-{i}" for i in range(launch.replicas))
    found = [server_arguments(folder) for folder in folders]
    return folders, found[0][0], lambda i: found[i][1]


def _running(
    servers: Sequence[Server],
    wanted: Sequence[str],
    adapters: Sequence[str],
    headers: Mapping[str, str],
    step_logs: tuple[Path, ...],
    mps: bool,
) -> Running:
    facts = [_facts(server.url, headers) for server in servers]
    served = [name for name in facts[0].adapters if all(name in each.adapters for each in facts)]
    target = Target(
        urls=tuple(server.url for server in servers),
        names=(*_names(wanted, served, adapters), _llm(facts[0], servers[0].url)),
        config=servers[0].config,
        kv_tokens=servers[0].kv_tokens,
        engine_version=servers[0].engine_version,
        gpu=gpu_name() or "cpu",
        server_args=servers[0].args,
        notes=_notes(servers, mps),
    )
    return Running(_noted(target, wanted), tuple(server.kv_tokens for server in servers), step_logs)


def _notes(servers: Sequence[Server], mps: bool) -> tuple[str, ...]:
    if len(servers) == 1:
        return ()
    tokens = ", ".join("unknown" if server.kv_tokens is None else f"{server.kv_tokens:,}" for server in servers)
    return (f"{len(servers)} replicas{' with MPS' if mps else ''}, requests sent to them in turn; KV tokens: {tokens}",)
