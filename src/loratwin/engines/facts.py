"""What a server is, as far as it tells: engine and version, LLM, adapters, limits, KV cache."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from loratwin.engines.engine import Engine
from loratwin.engines.pages import labels, whole
from loratwin.engines.registry import ENGINES
from loratwin.errors import DataError
from loratwin.http import Connection


@dataclass(frozen=True)
class ServerFacts:
    """What a server told of itself; None: it did not."""

    engine: str | None = None  # name of an `Engine`
    version: str | None = None
    llm: str | None = None  # as requests name it
    adapters: dict[str, str | None] = field(default_factory=dict)  # name -> the LLM it belongs to
    max_model_len: int | None = None
    block_size: int | None = None  # tokens in a KV block
    kv_tokens: int | None = None  # tokens that the KV cache holds
    max_loras: int | None = None  # of vLLM only after its first requests
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_dtype: str | None = None
    enable_prefix_caching: bool | None = None

    @property
    def engine_version(self) -> str:
        """As records name it, "vllm-0.32.0"; empty if unknown."""
        return "-".join(filter(None, [self.engine, self.version])) if self.engine else ""


def server_facts(url: str, headers: Mapping[str, str] | None = None, timeout_s: float = 10.0) -> ServerFacts:
    """Ask a server what it is, with GET requests that change nothing.

    Parameters
    ----------
    headers
        Sent along, as that with an API key; written nowhere.

    Raises
    ------
    DataError
        The server does not answer `/v1/models`: every OpenAI-compatible one does.
    """
    with Connection(url, headers, timeout_s) as connection:
        said = _models(connection.get_json("/v1/models"), connection.url)
        page = _page(connection)
        # the one whose answers are least like others' is asked first
        told = (_told(kind, connection, page) for kind in reversed(ENGINES.values()))
        return _facts(said | next((one for one in told if one is not None), {}))


def facts_of(engine: Engine, connection: Connection, log: str = "") -> ServerFacts:
    """The same of a server that is known to be of this engine, and whose log is there; raises nothing.

    Parameters
    ----------
    log
        Tells what the server does not answer.
    """
    try:
        said = _models(connection.get_json("/v1/models"), connection.url)
    except DataError:
        said = {}
    told = _told(engine, connection, _page(connection)) or {"engine": engine.name}
    return _facts(_logged(engine, log) | said | told)


def engine_at(connection: Connection) -> Engine | None:
    """Which engine answers; None: it does not tell."""
    page = _page(connection)
    answering = (kind for kind in reversed(ENGINES.values()) if kind.tells(connection, page) is not None)
    return next(answering, None)


def _facts(values: Mapping[str, Any]) -> ServerFacts:
    known = {one.name for one in fields(ServerFacts)}
    return ServerFacts(**{name: value for name, value in values.items() if name in known})


def _told(engine: Engine, connection: Connection, page: str) -> dict[str, Any] | None:
    told = engine.tells(connection, page)
    if told is None:
        return None
    info = engine.adapter_info
    slots = {"max_loras": whole(labels(page, info.series).get(info.most))} if info is not None else {}
    return {name: value for name, value in (slots | told | {"engine": engine.name}).items() if value is not None}


def _logged(engine: Engine, log: str) -> dict[str, Any]:
    matches = {name: re.findall(pattern, log) for name, pattern in engine.logged.items()}
    numbers = {name: whole(numbers[-1].replace(",", "")) for name, numbers in matches.items() if numbers}
    return {name: value for name, value in numbers.items() if value is not None}


def _models(answer: Any, url: str) -> dict[str, Any]:
    """An adapter names its LLM as parent; an LLM names none, or itself."""
    try:
        entries = {str(entry.get("id", "")): entry for entry in answer["data"]}
        parents = {name: entry.get("parent") for name, entry in entries.items()}
    except (TypeError, KeyError, AttributeError):
        raise DataError(f"{url}/v1/models: not a list of models as OpenAI's") from None
    adapters = {name: str(parent) for name, parent in parents.items() if parent and parent != name}
    llms = [name for name in entries if name not in adapters]
    longest = whole(entries[llms[0]].get("max_model_len")) if llms else None
    said = {"llm": llms[0] if llms else None, "adapters": adapters, "max_model_len": longest}
    return {name: value for name, value in said.items() if value}


def _page(connection: Connection) -> str:
    """`/metrics`; "" where there is none, as SGLang's without --enable-metrics."""
    try:
        return connection.get("/metrics").decode("utf-8", "replace")
    except DataError:
        return ""
