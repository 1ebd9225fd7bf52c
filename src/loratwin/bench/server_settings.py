"""What is known of a server that runs already: from the user, its process on this machine, itself, its engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.config import engine_config
from loratwin.engines.engine import UNKNOWN_GPU, Engine
from loratwin.engines.registry import DEFAULT, find_engine
from loratwin.errors import DataError
from loratwin.http import Connection
from loratwin.launch.local import LocalServer, is_local, local_server
from loratwin.records import EngineConfig
from loratwin.telemetry import ServerFacts, gpu_name, server_facts

_LIMITS = ("max_loras", "max_lora_rank", "block_size", "max_model_len", "max_num_seqs", "max_num_batched_tokens",
           "gpu_memory_utilization")  # fmt: skip
"""What decides how a server serves adapters; `assumed` where nobody tells it."""


@dataclass(frozen=True)
class ServerSettings:
    """What is known of a server.

    Parameters
    ----------
    config
        Its limits; what nobody tells is the engine's default.
    note
        Where they are from.
    assumed
        Fields of `config` that nobody tells.
    server_args, server_env
        What it was started with, as records have it.
    gpu
        This machine's, if it is here; "cpu": its process is, and NVML finds no GPU; "": not known.
    """

    config: EngineConfig
    note: str
    assumed: tuple[str, ...] = ()
    server_args: tuple[str, ...] = ()
    server_env: tuple[str, ...] | None = None
    gpu: str = ""

    def limits(self) -> dict[str, Any]:
        """Fields of `config` that somebody tells."""
        return {name: getattr(self.config, name) for name in _LIMITS if name not in self.assumed}


def server_settings(
    facts: ServerFacts, url: str, given: str | Sequence[str] | ServerArguments | None = None
) -> ServerSettings:
    """The configuration of the server at an address; one that does not tell its engine is taken for a vLLM.

    Parameters
    ----------
    facts
        What the server said of itself.
    given
        What it runs with, by the user, who is believed.

    Raises
    ------
    InputError
        The arguments are such as the engine refuses.
    """
    kind = find_engine(facts.engine or DEFAULT)
    gpu = None if is_local(url) else UNKNOWN_GPU  # a server elsewhere does not tell its GPU
    here = gpu_name() if is_local(url) else ""
    if (started := process_of(url, kind, given)) is not None:
        config = engine_config(started.arguments, facts, gpu)
        note = "limits of the server as its command line on this machine says"
        return ServerSettings(
            config, note, server_args=started.arguments.shown, server_env=started.env, gpu=here or "cpu"
        )
    if given is not None:
        arguments = ServerArguments.of(kind, given)
        config = engine_config(arguments, facts, gpu)
        note = "limits of the server as given by --server-args, not checked with it"
        return ServerSettings(config, note, server_args=arguments.shown, gpu=here)
    assumed = tuple(name for name in _LIMITS if getattr(facts, name, None) is None)
    where = "on this machine" if gpu is None else "on a GPU below 70 GiB"
    note = (
        f"the server does not tell {', '.join(assumed)}: the defaults of {facts.engine_version or kind.title} {where} "
        "are assumed (--server-args or --serve says what it runs with)"
    )
    config = engine_config(ServerArguments(kind).put(enable_lora=True), facts, gpu).replace(max_cpu_loras=None)
    return ServerSettings(config, note, assumed, gpu=here)


def process_of(
    url: str, engine: Engine, given: str | Sequence[str] | ServerArguments | None = None
) -> LocalServer | None:
    """The process of a server of this engine, which is believed where the user says nothing of what it runs with.

    Parameters
    ----------
    url
        Its address.
    given
        What the user says.
    """
    process = None if given is not None else local_server(url)
    return process if process is not None and process.arguments.engine is engine else None


def facts_with_slots(url: str, headers: Mapping[str, str], timeout_s: float = 60.0) -> ServerFacts:
    """What a server says of itself; where its engine tells the slots after the first LoRA request only, that is sent.

    Raises
    ------
    DataError
        It does not answer.
    """
    facts = server_facts(url, headers)
    engine = find_engine(facts.engine or DEFAULT)
    if facts.max_loras is not None or not facts.adapters or facts.engine is None or engine.adapter_info is None:
        return facts
    question = {"model": next(iter(facts.adapters)), "prompt": "a", "max_tokens": 1}
    with suppress(DataError), Connection(url, headers, timeout_s) as connection:
        connection.request("/v1/completions", question)
        return server_facts(url, headers)
    return facts
