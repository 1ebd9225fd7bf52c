"""Adapters given to a running server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from loratwin.engines.engine import Loading
from loratwin.engines.facts import engine_at
from loratwin.engines.registry import DEFAULT, find_engine
from loratwin.http import Answer, Connection, NoAnswerError, bearer
from loratwin.launch.failure import ServerError

LOAD_TIMEOUT_S = 300.0  # the engine reads the adapter from disk, between two steps of a batch


def load_adapters(
    url: str,
    adapters: Mapping[str, str | Path],
    *,
    api_key: str | None = None,
    engine: str | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Register adapters (name -> folder, as the server sees it), one after the other.

    Those that the server already has under the name are left as they are. vLLM loads an adapter into a slot at once.

    Parameters
    ----------
    engine
        Its name; None: the server is asked, and taken for a vLLM if it does not tell.

    Raises
    ------
    ServerError
        The server allows no registration, or refuses an adapter; the message says which and why.
    """
    with Connection(url, bearer(api_key), LOAD_TIMEOUT_S) as connection:
        kind = find_engine(engine) if engine else engine_at(connection) or find_engine(DEFAULT)
        for done, (name, path) in enumerate(adapters.items()):
            progress(done, len(adapters))
            if why_not := _load(connection, kind.loading, name, path):
                raise ServerError(f"adapter {name} on {url}: {why_not}")
    progress(len(adapters), len(adapters))


def _load(connection: Connection, loading: Loading, name: str, path: str | Path) -> str:
    """Why an adapter is not there afterwards; "" if it is."""
    try:
        answer = connection.request(loading.path, {"lora_name": name, "lora_path": str(path)})
    except NoAnswerError as error:
        return error.reason
    loaded = answer.ok or "already" in answer.text  # vLLM: "has already been loaded", SGLang: "already exists"
    return "" if loaded else _reason(answer, loading)


def _reason(answer: Answer, loading: Loading) -> str:
    if answer.status in (404, 405) and "lora" not in answer.text.lower():
        return f"the server does not let adapters be loaded; {loading.how_allowed}"
    if answer.status == 401:
        return "the API key is missing or wrong"
    return f"HTTP {answer.status}: {_message(answer)}"


def _message(answer: Answer) -> str:
    """vLLM wraps it: {"error": {"message": ...}}, older {"message": ...}."""
    data = answer.json()
    data = data.get("error", data) if isinstance(data, dict) else answer.text
    text = str(data.get("message", data) if isinstance(data, dict) else data)
    return " ".join(text.split())[:300]
