"""Where the servers of a calibration come from, and what is said of them: by the user, by themselves, by the design."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from loratwin.bench import GivenServers, LaunchedServers, Listener, key_headers
from loratwin.bench.listener import SILENT
from loratwin.bench.running import RunningServers
from loratwin.bench.server_settings import process_of
from loratwin.bench.shared.requests import parse_url
from loratwin.engines.arguments import ServerArguments
from loratwin.engines.config import engine_config
from loratwin.engines.config_file import with_config_file
from loratwin.engines.registry import DEFAULT, find_engine
from loratwin.engines.versions import UNTOLD
from loratwin.errors import DataError, InputError
from loratwin.launch.local import LocalServer
from loratwin.llms import LlmShapes, find_llm
from loratwin.records import EngineConfig
from loratwin.synthetic import read_adapters
from loratwin.telemetry import ServerFacts, server_facts
from loratwin.workload import Adapters

_CHOSEN = ("enable_lora", "max_loras", "max_cpu_loras", "max_lora_rank", "lora_modules")
"""Options that the design sets, whatever the user's arguments say."""


@dataclass(frozen=True)
class ServerSource:
    """Where servers come from: started by us with a command and arguments, or one that answers already.

    Parameters
    ----------
    lora_folder
        Adapters of `loratwin.synthetic.make_adapters`.
    args
        The engine's arguments, in one string or a list, with the LLM; slots and rank are set by the design. Empty, with
        a URL of this machine: those of the process that listens there, where they can be read.
    command
        What the arguments are appended to; None: the engine's own.
    url
        Of a server that runs already; None: servers are started.
    step_log
        Of such a server, if it was started with the probe: the folder of its step log.
    timeout_s
        Seconds that a server may take to start.
    headers
        HTTP headers, as that with an API key.
    engine
        Its name.
    """

    lora_folder: str | Path
    args: str | Sequence[str] | ServerArguments = ""
    command: str | None = None
    url: str | None = None
    step_log: str | Path | None = None
    timeout_s: float = 600.0
    headers: Mapping[str, str] = field(default_factory=dict)
    engine: str = DEFAULT

    def adapters(self) -> Adapters:
        """The adapters in the folder.

        Raises
        ------
        InputError, DataError
            There is none, or it is damaged.
        """
        made = read_adapters(self.lora_folder)
        if not made:
            raise InputError(f"{self.lora_folder} has no adapters: loratwin adapters make")
        num = len(made)
        ranks = np.array([adapter.rank for adapter in made], dtype=np.int32)
        names = tuple(adapter.name for adapter in made)
        return Adapters(names, ranks, np.full(num, np.nan), np.zeros(num, dtype=np.int32))

    @cached_property
    def arguments(self) -> ServerArguments:
        """The user's arguments; without any those of the process at the URL.

        Raises
        ------
        InputError
            A quotation does not end.
        """
        if self._process is not None:
            return self._process.arguments
        return with_config_file(ServerArguments.of(find_engine(self.engine), self.args))

    @cached_property
    def _process(self) -> LocalServer | None:
        """The process at the URL, whose own words count where the user has none."""
        if self.url is None:
            return None
        return process_of(parse_url(self.url).url, find_engine(self.engine), self.args or None)

    def config(self) -> EngineConfig:
        """What a server with the user's arguments is limited to."""
        return engine_config(self.arguments.put(enable_lora=True))

    def names_llm(self) -> bool:
        """Whether the arguments name an LLM; those of a process, whether one that is known here."""
        named = self.arguments.text("model")
        if named is None or self._process is None:
            return "model" in self.arguments
        try:
            return bool(llm_shapes(named))
        except InputError:
            return False  # a folder as the server sees it

    def llm(self, name: str | None = None) -> LlmShapes:
        """Shapes of the LLM that is named, or that the arguments name.

        Raises
        ------
        InputError
            Neither names one, or it is not known.
        """
        return llm_shapes(name or self.arguments.text("model"))

    def all_arguments(self, designed: ServerArguments, facts: ServerFacts | None = None) -> ServerArguments:
        """What a server at the URL runs with: as the user says, else as it tells, else as the design has it."""
        given = self.arguments
        known = {"block_size": facts and facts.block_size, "max_model_len": facts and facts.max_model_len}
        served = {name: value for name, value in known.items() if value and name not in given}
        said = [name for name in _CHOSEN if name in given]
        return given.put(**served).plus(designed.without(*said))

    def slots_and_rank(self) -> tuple[int | None, int | None]:
        """Slots and rank of the server at the URL, as the user says, else as the server does; None: nobody tells.

        Raises
        ------
        InputError
            The server does not answer.
        """
        slots, rank = (self.arguments.whole(name) for name in ("max_loras", "max_lora_rank"))
        return self._facts().max_loras if slots is None else slots, rank

    def _facts(self) -> ServerFacts:
        assert self.url is not None
        try:
            return server_facts(parse_url(self.url).url, self.headers)
        except DataError as error:
            raise InputError(f"no usable server at {self.url}: {error}") from None

    @contextmanager
    def server(
        self, arguments: ServerArguments, names: Sequence[str], logs: Path, listener: Listener = SILENT
    ) -> Iterator[RunningServers]:
        """A server with these arguments of the design; gone afterwards, unless it was there before.

        Raises
        ------
        InputError, ServerError
            It does not start, does not answer, or lacks an adapter.
        """
        if self.url is not None:
            args = None if self._process is not None else self.all_arguments(arguments, self._facts())
            given = GivenServers(self.url, server_args=args, lora_folder=self.lora_folder)
            with given.running(names, self.headers, logs) as running:
                yield replace(running, step_logs=() if self.step_log is None else (Path(self.step_log),))
            return
        args = self.arguments.without(*_CHOSEN).plus(arguments)
        launched = LaunchedServers(
            args,
            engine=self.engine,
            command=self.command,
            steps=True,
            timeout_s=self.timeout_s,
            lora_folder=self.lora_folder,
        )
        listener.line(f"starting {self.engine} {' '.join(arguments.shown)}")
        with launched.running(names, self.headers, logs) as running:
            yield running


def server_source(
    lora_folder: str | Path,
    args: str = "",
    command: str | None = None,
    url: str | None = None,
    step_log: str | Path | None = None,
    timeout_s: float = 600.0,
    api_key_env: str | None = None,
) -> ServerSource:
    """A `ServerSource` as the commands of `loratwin calibrate` are told of it.

    Parameters
    ----------
    lora_folder, args, command, url, step_log, timeout_s
        As of `ServerSource`.
    api_key_env
        Environment variable with the API key, if there is one; None: none is asked for.

    Raises
    ------
    InputError
        A step log is given of a server that we start.
    """
    if step_log is not None and url is None:
        raise InputError("--step-log is for a server at --url; one that we start logs its steps anyway")
    headers = key_headers(api_key_env) if api_key_env else {}
    return ServerSource(lora_folder, args, command, url, step_log, timeout_s, headers)


def llm_shapes(name: str | None, engine_version: str = UNTOLD) -> LlmShapes:
    """Shapes of an LLM by its name, or by the folder of its config.json.

    Parameters
    ----------
    engine_version
        Which layers get LoRA buffers depends on it; it matters for the memory of a GPU only.

    Raises
    ------
    InputError
        There is no name, or it is not known.
    """
    if not name:
        raise InputError("which LLM? Name it, or give the folder of its config.json: --llm")
    return find_llm(name, engine_version)
