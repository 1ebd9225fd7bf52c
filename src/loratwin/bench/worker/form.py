"""What a server takes of a request: found by one question for each field that it may not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from loratwin.bench.shared.requests import FULL, PATHS, Api, RequestForm
from loratwin.errors import DataError
from loratwin.http import Connection

BARE = RequestForm(token_ids=False, stream_options=False, continuous_usage=False, ignore_eos=False, temperature=False)
"""What every OpenAI-compatible server takes: the LLM, a text, a limit, and streaming."""

_DOUBTFUL: tuple[dict[str, bool], ...] = (
    {"token_ids": True},
    {"stream_options": True},
    {"stream_options": True, "continuous_usage": True},
    {"ignore_eos": True},
    {"temperature": True},
)
"""One question each."""

_TIMEOUT_S = 60.0


def is_refusal(kind: str) -> bool:
    """Whether a failure may be that of a field: of a status 4xx or 5xx that says nothing of keys, names or load."""
    return kind.startswith("HTTP ") and kind not in ("HTTP 401", "HTTP 403", "HTTP 404", "HTTP 429", "HTTP 503")


def find_form(url: str, model: str, api: Api, headers: Mapping[str, str]) -> RequestForm:
    """What the server takes; all where it does not even take the least: the fault is then another."""
    with Connection(url, headers, _TIMEOUT_S) as connection:
        if not _takes(connection, model, api, BARE):
            return FULL
        form = replace(BARE, token_ids=True) if api == "chat" else BARE  # a chat has none
        for fields in _DOUBTFUL:
            if _takes(connection, model, api, replace(BARE, **fields)):
                form = replace(form, **fields)
        if not form.ignore_eos and _takes(connection, model, api, replace(BARE, min_tokens=True)):
            form = replace(form, min_tokens=True)
        return form


def _takes(connection: Connection, model: str, api: Api, form: RequestForm) -> bool:
    try:
        return connection.request(PATHS[api], _question(model, api, form)).ok
    except DataError:
        return False


def _question(model: str, api: Api, form: RequestForm) -> dict[str, Any]:
    said: Any = [100, 101, 102] if form.token_ids else "one two three"
    prompt = {"prompt": said} if api == "completions" else {"messages": [{"role": "user", "content": "one two"}]}
    least = {"min_tokens": 2} if form.min_tokens else {}
    return {"model": model, **prompt, "max_tokens": 2, **least, **form.fields()}
