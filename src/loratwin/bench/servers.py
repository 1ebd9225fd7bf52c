"""The servers that a benchmark measures: those that answer at given addresses, or those that it starts itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from loratwin.bench.listener import SILENT, Listener
from loratwin.bench.running import PlacedServer, RunningServers, assign_adapters
from loratwin.bench.server_settings import ServerSettings, facts_with_slots, server_settings
from loratwin.bench.shared.requests import parse_url
from loratwin.engines.arguments import ServerArguments, as_words
from loratwin.engines.config_file import with_config_file
from loratwin.engines.registry import DEFAULT, ENGINES, find_engine
from loratwin.engines.server_line import find_line
from loratwin.errors import DataError, InputError
from loratwin.http import NoAnswerError
from loratwin.launch import Server, load_adapters, start_mps, start_replicas
from loratwin.llms import find_llm
from loratwin.probe import server_arguments
from loratwin.synthetic import lora_modules_args, read_adapters
from loratwin.telemetry import ServerFacts, gpu_name
from loratwin.workload.adapter_checks import check_folder


class Servers(Protocol):
    """Servers to measure: `GivenServers` or `LaunchedServers`."""

    def running(
        self, wanted: Sequence[str], headers: Mapping[str, str], logs: Path, listener: Listener = SILENT
    ) -> AbstractContextManager[RunningServers]:
        """The servers, as long as the `with` lasts.

        Parameters
        ----------
        wanted
            Names of the workload's adapters.
        headers
            HTTP headers of every request, as that with an API key.
        logs
            Folder for what servers that are started print and log.
        """


@dataclass(frozen=True)
class GivenServers:
    """Servers that answer already.

    Parameters
    ----------
    urls
        Where, as "http://127.0.0.1:8000"; several share the requests evenly.
    adapters
        The servers' adapters that stand for the workload's, in its order; empty: equal names, else in natural order.
    server_args
        What the servers run with, in one string or a list; None: what they tell, and the engine's defaults.
    llm
        Name of the LLM itself; None: as the server says.
    lora_folder
        Adapters of `make_adapters` to register first; the servers must see the same folder.
    planned
        What a plan says of each, where they hold different adapters; empty: all serve the same.
    """

    urls: str | Sequence[str]
    adapters: Sequence[str] = ()
    server_args: str | Sequence[str] | ServerArguments | None = None
    llm: str | None = None
    lora_folder: str | Path | None = None
    planned: Sequence[PlacedServer] = ()

    @contextmanager
    def running(
        self, wanted: Sequence[str], headers: Mapping[str, str], logs: Path, listener: Listener = SILENT
    ) -> Iterator[RunningServers]:
        """Ask them what they are; register the adapters of a folder first. They stay when the `with` ends.

        Raises
        ------
        InputError
            One does not answer, is given twice, or lacks an adapter.
        """
        urls = _different([self.urls] if isinstance(self.urls, str) else self.urls)
        facts = [_facts(url, headers, self.llm) for url in urls]
        held = [{wanted[number] for number in server.adapters} for server in self.planned]
        if self.lora_folder is not None:
            _register(urls, facts, self.lora_folder, headers, held)
            facts = [_facts(url, headers, self.llm) for url in urls]  # they have other adapters now
        settings = [server_settings(its, url, self.server_args) for its, url in zip(facts, urls, strict=True)]
        planned, notes = _as_planned(self.planned, settings)
        names = _names_held(wanted, planned, facts, urls) if planned else _names(wanted, facts, self.adapters)
        first = settings[0]
        running = RunningServers(
            urls=tuple(urls),
            names=(*names, self.llm or _llm(facts[0], urls[0])),
            config=planned[0].config if planned else first.config,
            kv_tokens=tuple(server.kv_tokens for server in facts),
            engine_version=facts[0].engine_version,
            gpu=first.gpu,
            server_args=first.server_args,
            server_env=first.server_env,
            assumed=() if planned else first.assumed,
            notes=notes if planned else (first.note,),
            planned=planned,
        )
        yield running.noting_names(wanted)


@dataclass(frozen=True)
class LaunchedServers:
    """Servers that are started for the measurement, and stopped after it.

    Parameters
    ----------
    args
        The engine's arguments, in one string or a list.
    engine
        "vllm" or "sglang".
    command
        What the arguments are appended to; None: the engine's own.
    replicas
        How many, on one GPU, started one after the other.
    mps
        With an MPS daemon of their own.
    steps
        Log the engine's steps (vLLM).
    timeout_s
        Seconds that a server may take to start.
    lora_folder
        Adapters of `make_adapters` to serve.
    adapters
        As of `GivenServers`.
    """

    args: str | Sequence[str] | ServerArguments
    engine: str = DEFAULT
    command: str | None = None
    replicas: int = 1
    mps: bool = False
    steps: bool = False
    timeout_s: float = 600.0
    lora_folder: str | Path | None = None
    adapters: Sequence[str] = ()

    @contextmanager
    def running(
        self, wanted: Sequence[str], headers: Mapping[str, str], logs: Path, listener: Listener = SILENT
    ) -> Iterator[RunningServers]:
        """Start them, one after the other; they are gone when the `with` ends.

        Raises
        ------
        InputError, ServerError
            They do not start, or lack an adapter.
        """
        given = with_config_file(ServerArguments.of(find_engine(self.engine), self.args))
        if self.lora_folder is not None and given.engine.lora_is_on(given):
            _check_folder(self.lora_folder, given)
        listener.line(f"starting {self.replicas} x {self.engine}; logs in {logs}")
        with ExitStack() as stack:
            mps = stack.enter_context(start_mps(logs)) if self.mps else None
            folders, args, env_of = self._step_logs(logs)
            args = [*args, *([] if self.lora_folder is None else lora_modules_args(self.lora_folder, self.engine))]
            servers = stack.enter_context(
                start_replicas(
                    self.replicas, self.engine, given.plus(args), log_folder=logs, env_of=env_of,
                    command=None if self.command is None else as_words(self.command),
                    env={} if mps is None else mps.env, timeout_s=self.timeout_s,
                )
            )  # fmt: skip
            if mps is not None:
                mps.check(servers)
            yield self._running(servers, wanted, headers, folders)

    def _step_logs(self, logs: Path) -> tuple[tuple[Path, ...], list[str], Callable[[int], Mapping[str, str]]]:
        """Where each server logs its steps, the arguments that make it, and the environment of each."""
        if not self.steps:
            return (), [], lambda i: {}
        if not find_engine(self.engine).logs_steps:
            whose = " and ".join(f"{kind.title}'s" for kind in ENGINES.values() if kind.logs_steps)
            raise InputError(f"--steps: only {whose} steps can be logged, not {self.engine}'s")
        folders = tuple(logs / f"steps-{i}" for i in range(self.replicas))
        probes = [server_arguments(folder) for folder in folders]
        return folders, probes[0][0], lambda i: probes[i][1]

    def _running(
        self, servers: Sequence[Server], wanted: Sequence[str], headers: Mapping[str, str], step_logs: tuple[Path, ...]
    ) -> RunningServers:
        facts = [_facts(server.url, headers) for server in servers]
        running = RunningServers(
            urls=tuple(server.url for server in servers),
            names=(*_names(wanted, facts, self.adapters), _llm(facts[0], servers[0].url)),
            config=servers[0].config,
            kv_tokens=tuple(server.kv_tokens for server in servers),
            engine_version=servers[0].engine_version,
            gpu=gpu_name() or "cpu",
            server_args=servers[0].args,
            server_env=servers[0].env,
            notes=_notes(servers, self.mps),
            step_logs=step_logs,
        )
        return running.noting_names(wanted)


def choose_servers(
    urls: Sequence[str] = (),
    launch: str | None = None,
    *,
    line: str | None = None,
    args: str | None = None,
    command: str | None = None,
    replicas: int = 1,
    mps: bool = False,
    steps: bool = False,
    timeout_s: float = 600.0,
    lora_folder: str | Path | None = None,
    llm: str | None = None,
    adapters: Sequence[str] = (),
) -> GivenServers | LaunchedServers:
    """Those at the addresses, or those to start, as `loratwin bench` is told; what does not go together is refused.

    Parameters
    ----------
    urls
        Of servers that answer already.
    launch
        Engine to start.
    line
        A server's line, or the file that holds it (`loratwin.engines.server_line`): its engine is started where
        neither an address nor an engine is given.
    args, command, replicas, mps, steps, timeout_s, lora_folder, llm, adapters
        As of `GivenServers` and `LaunchedServers`.

    Raises
    ------
    InputError
        Both addresses and an engine, neither, or something that the other kind of server alone takes.
    """
    if line is not None and not urls and launch is None:
        launch = find_line(line).arguments.engine.name
    if bool(urls) == (launch is not None):
        raise InputError("give the server's --url, or --launch vllm to start one")
    if launch is None and (replicas > 1 or mps or steps):
        raise InputError("--replicas, --mps and --steps are for servers that we start: --launch")
    if not 0 < timeout_s < float("inf"):
        raise InputError(f"--start-timeout {timeout_s:g}: it must be a positive number of seconds")
    if launch is not None and llm is not None:
        raise InputError("--llm is for --url; a server that we start is asked for its LLM's name")
    if launch is None and command is not None:
        raise InputError("--server-command is for a server that we start: --launch")
    if launch is None:
        return GivenServers(urls, adapters, args, llm, lora_folder)
    return LaunchedServers(args or "", launch, command, replicas, mps, steps, timeout_s, lora_folder, adapters)


def _different(urls: Sequence[str]) -> list[str]:
    """The URLs in one form; a server that is given twice would count twice."""
    endpoints = [parse_url(url).url for url in urls]
    for url in endpoints:
        if endpoints.count(url) > 1:
            raise InputError(f"--url {url} is given twice; each server counts once")
    return endpoints


def _register(
    urls: Sequence[str],
    facts: Sequence[ServerFacts],
    folder: str | Path,
    headers: Mapping[str, str],
    held: Sequence[Collection[str]],
) -> None:
    """Register a folder's adapters, of each server those that it holds; `held` empty: all."""
    made = {adapter.name: adapter.path for adapter in read_adapters(folder)}
    key = headers.get("Authorization", "").removeprefix("Bearer ") or None
    for url, server, names in zip(urls, facts, held or [made] * len(urls), strict=True):
        its = {name: path for name, path in made.items() if name in names}
        load_adapters(url, its, api_key=key, engine=server.engine or DEFAULT)


def _as_planned(
    planned: Sequence[PlacedServer], settings: Sequence[ServerSettings]
) -> tuple[tuple[PlacedServer, ...], tuple[str, ...]]:
    """What was planned with what each server tells of itself, and where the two differ; empty: nothing was planned."""
    servers: list[PlacedServer] = []
    notes: list[str] = []
    for server, its in zip(planned, settings, strict=True) if planned else ():
        config, differences = server.with_limits(its.limits())
        servers.append(replace(server, config=config))
        notes += differences
    return tuple(servers), tuple(notes)


def _names_held(
    wanted: Sequence[str], planned: Sequence[PlacedServer], facts: Sequence[ServerFacts], urls: Sequence[str]
) -> tuple[str, ...]:
    """The workload's names, which each server must know of the adapters that it holds."""
    for server, its, url in zip(planned, facts, urls, strict=True):
        missing = [wanted[number] for number in server.adapters if wanted[number] not in its.adapters]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise InputError(
                f"{server.name} ({url}) does not serve {missing[0]!r}{more}, which the plan puts there; "
                "--lora-folder registers adapters, or give the addresses in the plan's order"
            )
    return tuple(wanted)


def _check_folder(folder: str | Path, arguments: ServerArguments) -> None:
    """What the server would refuse once it has been started for minutes."""
    rank = arguments.whole("max_lora_rank") or arguments.engine.default_lora_rank
    try:
        llm = find_llm(arguments.model)
    except InputError:
        llm = None  # not known by name: nothing to compare with
    check_folder(folder, llm, rank)


def _names(wanted: Sequence[str], facts: Sequence[ServerFacts], given: Sequence[str]) -> tuple[str, ...]:
    """The servers' names of the workload's adapters; all servers must have them."""
    served = [name for name in facts[0].adapters if all(name in server.adapters for server in facts)]
    return assign_adapters(wanted, served, given) if wanted else ()


def _facts(url: str, headers: Mapping[str, str], llm: str | None = None) -> ServerFacts:
    """What a server says; one whose LLM the user names need not list its models, as long as it answers at all."""
    try:
        return facts_with_slots(url, headers)
    except DataError as error:
        if llm is not None and not isinstance(error, NoAnswerError) and not str(error).endswith(_KEYS):
            return ServerFacts()
        raise InputError(f"no usable server at {url}: {error}{_hint(str(error))}") from None


_KEYS = ("HTTP 401", "HTTP 403")


def _hint(error: str) -> str:
    """What would be right, where the error alone does not say it."""
    if error.endswith(_KEYS):
        return " (the API key is missing or wrong; it is taken from $OPENAI_API_KEY, or --api-key-env)"
    if "CERTIFICATE_VERIFY_FAILED" in error:
        return " (the environment variable SSL_CERT_FILE names a file with certificates to trust)"
    return ""


def _llm(facts: ServerFacts, url: str) -> str:
    if facts.llm is None:
        raise InputError(f"{url} does not name its LLM; give it: --llm NAME")
    return facts.llm


def _notes(servers: Sequence[Server], mps: bool) -> tuple[str, ...]:
    if len(servers) == 1:
        return ()
    tokens = ", ".join("unknown" if server.kv_tokens is None else f"{server.kv_tokens:,}" for server in servers)
    return (f"{len(servers)} replicas{' with MPS' if mps else ''}, requests sent to them in turn; KV tokens: {tokens}",)
