"""What a server is, as far as it tells: engine and version, LLM, adapters, limits, KV cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loratwin.engines.told import CACHE_INFO, kv_cache, sglang_info
from loratwin.engines.told import whole as _whole
from loratwin.errors import DataError
from loratwin.http import Connection
from loratwin.telemetry.exposition import MAX_LORAS, Exposition
from loratwin.telemetry.table import SeriesKey


@dataclass(frozen=True)
class ServerFacts:
    """What a server told of itself; None: it did not."""

    engine: str | None = None  # "vllm", "sglang"
    version: str | None = None
    llm: str | None = None  # as requests name it
    adapters: dict[str, str | None] = field(default_factory=dict)  # name -> the LLM it belongs to
    max_model_len: int | None = None
    block_size: int | None = None  # tokens in a KV block
    kv_tokens: int | None = None  # tokens that the KV cache holds
    max_loras: int | None = None  # of vLLM only after its first requests

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
    connection = Connection(url, headers, timeout_s)
    try:
        llm, adapters, max_model_len = _models(connection.get_json("/v1/models"), connection.url)
        told: dict[str, Any] = {"llm": llm, "adapters": adapters, "max_model_len": max_model_len}
        told |= _of_metrics(_page(connection))
        told |= _of_sglang(connection) or _of_vllm(connection)
        return ServerFacts(**{name: value for name, value in told.items() if value is not None})
    finally:
        connection.close()


def _models(answer: Any, url: str) -> tuple[str | None, dict[str, str | None], int | None]:
    """An adapter names its LLM as parent; an LLM names none, or itself."""
    try:
        entries = {str(entry["id"]): entry for entry in answer["data"]}
        parents = {name: entry.get("parent") for name, entry in entries.items()}
    except (TypeError, KeyError, AttributeError):
        raise DataError(f"{url}/v1/models: not a list of models as OpenAI's") from None
    adapters = {name: str(parent) for name, parent in parents.items() if parent and parent != name}
    llms = [name for name in entries if name not in adapters]
    longest = _whole(entries[llms[0]].get("max_model_len")) if llms else None
    return (llms[0] if llms else None), dict(adapters), longest


def _page(connection: Connection) -> dict[SeriesKey, float]:
    try:
        return Exposition().read(connection.get("/metrics").decode("utf-8", "replace"))
    except DataError:
        return {}  # SGLang without --enable-metrics


def _of_metrics(values: Mapping[SeriesKey, float]) -> dict[str, Any]:
    """vLLM's cache_config_info carries the block size and the number of blocks as labels."""
    told: dict[str, Any] = {"max_loras": _whole(values.get(MAX_LORAS))}
    labels = next((dict(key.labels) for key in values if key.name == CACHE_INFO), {})
    told["block_size"], told["kv_tokens"] = kv_cache(labels)
    if any(key.name.startswith("vllm:") for key in values):
        told["engine"] = "vllm"
    return told


def _of_sglang(connection: Connection) -> dict[str, Any]:
    for path in ("/server_info", "/get_server_info"):  # the second is the older name
        try:
            info = connection.get_json(path)
        except DataError:
            continue
        if isinstance(info, dict) and "max_total_num_tokens" in info:
            known = ServerFacts.__dataclass_fields__
            return {"engine": "sglang"} | {name: value for name, value in sglang_info(info).items() if name in known}
    return {}


def _of_vllm(connection: Connection) -> dict[str, Any]:
    try:
        version = connection.get_json("/version")
    except DataError:
        return {}
    text = version.get("version") if isinstance(version, dict) else None
    return {"engine": "vllm", "version": str(text)} if text else {}
