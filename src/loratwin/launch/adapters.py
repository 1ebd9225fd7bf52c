"""Adapters given to a running server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from loratwin.http import Answer, Connection, NoAnswerError, bearer
from loratwin.launch.failure import ServerError

LOAD_TIMEOUT_S = 300.0  # the engine reads the adapter from disk, between two steps of a batch


def load_adapters(
    url: str,
    adapters: Mapping[str, str | Path],
    *,
    api_key: str | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Register adapters (name -> folder, as the server sees it) by `POST /v1/load_lora_adapter`, one after the other.

    Those that the server already has under the name are left as they are. vLLM loads an adapter into a slot at once.

    Raises
    ------
    ServerError
        The server allows no registration, or refuses an adapter; the message says which and why.
    """
    with Connection(url, bearer(api_key), LOAD_TIMEOUT_S) as connection:
        for done, (name, path) in enumerate(adapters.items()):
            progress(done, len(adapters))
            if why_not := _load(connection, name, path):
                raise ServerError(f"adapter {name} on {url}: {why_not}")
    progress(len(adapters), len(adapters))


def _load(connection: Connection, name: str, path: str | Path) -> str:
    """Why an adapter is not there afterwards; "" if it is."""
    try:
        answer = connection.request("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})
    except NoAnswerError as error:
        return error.reason
    loaded = answer.ok or "already" in answer.text  # vLLM: "has already been loaded", SGLang: "already exists"
    return "" if loaded else _reason(answer)


def _reason(answer: Answer) -> str:
    if answer.status in (404, 405) and "load_lora_adapter" not in answer.text and "lora" not in answer.text.lower():
        return (
            "the server does not let adapters be loaded; start vLLM with --enable-lora and "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"
        )
    if answer.status == 401:
        return "the API key is missing or wrong"
    return f"HTTP {answer.status}: {_message(answer)}"


def _message(answer: Answer) -> str:
    """vLLM wraps it: {"error": {"message": ...}}, older {"message": ...}."""
    data = answer.json()
    data = data.get("error", data) if isinstance(data, dict) else answer.text
    text = str(data.get("message", data) if isinstance(data, dict) else data)
    return " ".join(text.split())[:300]
