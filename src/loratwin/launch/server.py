"""One server: started, waited for, and stopped with everything that it started."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from loratwin.engines.arguments import HIDDEN, ServerArguments
from loratwin.engines.as_started import own_variables
from loratwin.engines.config import engine_config
from loratwin.engines.facts import ServerFacts, facts_of
from loratwin.engines.registry import find_engine
from loratwin.engines.start import full_command
from loratwin.errors import InputError
from loratwin.http import Connection, ask, bearer
from loratwin.interrupts import Interrupts
from loratwin.launch.failure import ServerError, last_lines, telling_lines
from loratwin.launch.guarded import Guarded
from loratwin.launch.ports import free_port, listens
from loratwin.records import EngineConfig

GRACE_S = 15.0
"""Time that a server has to end by itself."""

POLL_S = 0.1

FACTS_TIMEOUT_S = 5.0
"""Time that a healthy server has for each question of what it is."""

Progress = Callable[[float, str], None]
"""Told while we wait: seconds since the start, and the last line of the log."""


class Server:
    """A server that answers. Made by `start_server`; stopped at the end of a `with`, by `stop`, or when we are gone."""

    def __init__(
        self,
        guarded: Guarded,
        url: str,
        port: int,
        log: Path,
        arguments: ServerArguments,
        facts: ServerFacts,
        env: Mapping[str, str],
    ) -> None:
        self._guarded = guarded
        self.url = url
        self.port = port
        self.pid = guarded.pid
        self.log_path = log
        self.args = (arguments.engine.options["model"].name, arguments.model, *arguments.without("model").shown)
        """All arguments as given to the engine, `***` for secrets."""
        self.env = own_variables(env, arguments.engine.variables)
        """Environment variables that say how it computes, as NAME=value."""
        self.engine_version = f"{arguments.engine.name}-{facts.version or 'unknown'}"
        self.kv_tokens = facts.kv_tokens
        """Tokens that the KV cache holds; None where the server does not say."""
        self.config: EngineConfig = engine_config(arguments, facts)

    @property
    def exit_code(self) -> int | None:
        """128 + signal if it was killed; None while it runs."""
        return self._guarded.poll()

    def processes(self) -> list[int]:
        """Ids of all its processes (empty where there is no /proc)."""
        return self._guarded.processes()

    def why(self) -> str:
        """What its log says of its end."""
        return telling_lines(self.log_path)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop it and all its processes; those still there after `grace_s` seconds are killed. Can be called again."""
        self._guarded.stop(grace_s)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start_server(
    engine_name: str,
    server_args: Sequence[str] | str | ServerArguments,
    *,
    log_folder: str | Path,
    command: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 600.0,
    host: str = "127.0.0.1",
    port: int | None = None,
    name: str = "server",
    progress: Progress = lambda seconds, line: None,
) -> Server:
    """Start a server and wait until it is healthy.

    Parameters
    ----------
    engine_name
        "vllm" or "sglang" (`loratwin.engines.registry.ENGINES`).
    server_args
        The engine's own arguments, with the LLM (`--model X`); text is split as a shell would, but no shell sees it.
        `--host` and `--port` in it count where the parameters are not given.
    log_folder
        Made if need be; the server's output goes to `NAME.log` in it, or `NAME-2.log` where there is one.
    command
        What the arguments are appended to; by default the engine in this Python's environment, or its program on PATH.
        It must be the server or start it as its child; a container's daemon would start it out of our reach.
    env
        Added to our environment. vLLM's `--api-key` is handed over here, since it logs its arguments.
    port
        By default one that is free.

    Raises
    ------
    InputError
        Unknown engine, no LLM, arguments that break a rule or stand in a file (`--config`), a port that is taken, a
        folder that cannot be written.
    ServerError
        The server ended, or was not healthy in time; with the lines of its log that say why. Nothing of it is left.
    """
    arguments = ServerArguments.of(find_engine(engine_name), server_args)
    if "config" in arguments:
        raise InputError("server arguments: write the options of the --config file out; the record would lack them")
    secrets = _secrets(arguments)
    host = arguments.text("host") or host
    port = free_port(host, port if port is not None else arguments.whole("port"))
    passed = arguments.put(host=host, port=port)
    engine_config(passed)  # refuses before the start what cannot be recorded after it
    passed = passed.without("api_key") if secrets else passed
    words = full_command(passed, command)
    log = _free_log(Path(log_folder), name)
    environment = {**os.environ, **(env or {}), **secrets}
    url = f"http://{_reachable(host)}:{port}"
    guarded = None
    try:
        with Interrupts():  # Ctrl-C waits until it is known what there is to end
            guarded = Guarded(words, log=log, env=environment)
        _wait_until_healthy(guarded, url, port, log, timeout_s, progress)
        text = log.read_text(encoding="utf-8", errors="replace")
        with Connection(
            url, bearer(environment.get(arguments.engine.key_variable or "")), FACTS_TIMEOUT_S
        ) as connection:
            facts = facts_of(arguments.engine, connection, text)
        recorded = passed.plus((arguments.engine.options["api_key"].name, HIDDEN) if secrets else ())
        return Server(guarded, url, port, log, recorded, facts, environment)
    except BaseException:  # Ctrl-C too
        if guarded is not None:
            guarded.stop(GRACE_S if guarded.poll() is None else 0.0)
        raise


def _secrets(arguments: ServerArguments) -> dict[str, str]:
    """An API key as environment, where no log and no list of processes shows it.

    Raises
    ------
    InputError
        For an engine that takes it as an argument only: it logs its arguments.
    """
    key = arguments.text("api_key")
    if key is None:
        return {}
    if arguments.engine.key_variable is None:
        who = arguments.engine.title
        raise InputError(f"{who} writes its API key to its log: leave out --api-key; the server listens on 127.0.0.1")
    return {arguments.engine.key_variable: key}


def _reachable(host: str) -> str:
    """Where a server that listens on `host` is found."""
    address = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"[{address}]" if ":" in address and not address.startswith("[") else address


def _free_log(folder: Path, name: str) -> Path:
    """NAME.log, or NAME-2.log and so on: logs of earlier servers are kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder} for logs: {error.strerror or error}") from None
    number = 1
    while True:
        log = folder / (f"{name}.log" if number == 1 else f"{name}-{number}.log")
        with suppress(FileExistsError):
            try:
                log.touch(exist_ok=False)
                return log
            except PermissionError as error:
                raise InputError(f"cannot write {log}: {error.strerror}") from None
        number += 1


def _wait_until_healthy(guarded: Guarded, url: str, port: int, log: Path, timeout_s: float, progress: Progress) -> None:
    start = time.monotonic()
    while True:
        if guarded.poll() is not None:
            raise ServerError(f"the server ended with exit code {guarded.poll()}: {telling_lines(log)} (log: {log})")
        waited = time.monotonic() - start
        healthy = ask(url, "/health").ok
        if healthy and listens(guarded.processes(), port) is not False:
            return
        if waited > timeout_s:
            why = f"another program answers on port {port}" if healthy else telling_lines(log)
            raise ServerError(f"the server was not healthy after {timeout_s:g} s: {why} (log: {log})")
        progress(waited, next(reversed(last_lines(log, 4096)), ""))
        time.sleep(POLL_S)
