"""JSON records that hold several requests, or a conversation, made flat: one record for each request."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from loratwin.traces.formats import NESTED, columns_of, recognised

CHARACTERS_PER_TOKEN = 4
"""Of English text, by OpenAI's rule of thumb; used where a file has text and no numbers of tokens."""

_ESTIMATED = (
    f"tokens are estimated from the text, {CHARACTERS_PER_TOKEN} characters each: the file has no numbers of tokens"
)
_TOOLS = "later calls of a session arrive when its tools have answered, as if the calls before took no time"

_TEXTS = ("prompt", "text_input", "text", "question")
_ANSWERS = ("completion", "response", "output", "answer")
_LISTS = ("requests", "data", "records", "rows", "entries", "logs")


def flat_records(values: Iterable[tuple[int, Any]]) -> tuple[Iterator[tuple[int, dict[str, Any]]], tuple[str, ...]]:
    """Records of single requests, each with the number that its record had, and what is to be said of them.

    What the form is, is told by the first record.
    """
    ahead = iter(values)
    first = next(ahead, None)
    if first is None:
        return iter(()), ()
    record = first[1]
    values = _chained(first, ahead)
    if not isinstance(record, dict):
        return ((line, value) for line, value in values if isinstance(value, dict)), ()
    if isinstance(record.get("conversations"), list) or isinstance(record.get("conversation"), list):
        return _each(values, _conversation), (_ESTIMATED,)
    if isinstance(record.get("sub_requests"), list):
        return _each(values, _session), (_TOOLS,)
    if isinstance(record.get("requests"), list) and "timestamp" in record:
        notes = () if _has_lengths(record["requests"]) else (_ESTIMATED,)
        return _each(values, _at_one_time), notes
    inner = next((key for key in _LISTS if _records(record.get(key))), None)
    if inner is not None and not _is_request(record):
        return _each(values, lambda one: one.get(inner) or []), ()
    if isinstance(record.get("prompt"), str) and not _tells_tokens(record) and not _is_request(record):
        return _each(values, _prompt), (_ESTIMATED,)
    return _each(values, _session), ()


def _chained(first: tuple[int, Any], rest: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    yield first
    yield from rest


def _each(values: Iterable[tuple[int, Any]], flat: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, value in values:
        if isinstance(value, dict):
            yield from ((line, record) for record in flat(value) if isinstance(record, dict))


def _records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _tokens(text: Any) -> int | None:
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN) if isinstance(text, str) else None


def paths(record: Any, before: str = "", depth: int = 0) -> Iterator[str]:
    """Dotted paths of all that is in a record, itself no record."""
    for key, value in record.items():
        if isinstance(value, dict) and depth < 4:
            yield from paths(value, f"{before}{key}.", depth + 1)
        yield f"{before}{key}"


def _is_request(record: dict[str, Any]) -> bool:
    """Whether a record is a request itself, whatever lists are in it."""
    form = recognised(paths(record))
    return form is not None and form.name not in NESTED and "time" in columns_of(form, paths(record))


def _tells_tokens(record: dict[str, Any]) -> bool:
    return any("token" in key.lower() or "length" in key.lower() for key in record if key != "output_tokens")


def _has_lengths(requests: Any) -> bool:
    return not _records(requests) or requests[0].get("prompt_length") is not None


def _at_one_time(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """AIBrix: requests that are sent at one time."""
    requests = record.get("requests")
    for request in (each for each in requests if isinstance(each, dict)) if isinstance(requests, list) else ():
        prompt, output = request.get("prompt_length"), request.get("output_length")
        flat = {**request, "timestamp": request.get("timestamp", record.get("timestamp")), "requests": None}
        prompt = _tokens(request.get("prompt")) if prompt is None else prompt
        yield flat | {
            "prompt_length": prompt,
            "output_length": _tokens(request.get("completion")) if output is None else output,
        }


def _session(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """LLMServingSim: calls of an agent, one after the other, with its tools between them; or a single request."""
    calls = record.get("sub_requests")
    if not isinstance(calls, list):
        yield record
        return
    arrival = record.get("arrival_time_ns") or 0
    for call in (each for each in calls if isinstance(each, dict)):
        yield {**call, "arrival_time_ns": arrival, "session_id": record.get("session_id")}
        arrival += call.get("tool_duration_ns") or 0


def _conversation(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """ShareGPT: the first two turns, as vLLM's benchmark takes them; shorter ones are left out there, too."""
    turns = record.get("conversations", record.get("conversation"))
    turns = turns if isinstance(turns, list) else []
    texts = [turn.get("value", turn.get("content")) for turn in turns[:2] if isinstance(turn, dict)]
    if len(texts) == 2:
        yield {"conversations": None, "prompt": _tokens(texts[0]), "output": _tokens(texts[1])}


def _prompt(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """vLLM's custom dataset: a prompt as text, and perhaps how long its answer is to be."""
    answer = record.get("output_tokens")
    if answer is None:
        answer = next((_tokens(record[key]) for key in _ANSWERS if isinstance(record.get(key), str)), None)
    flat = {**record, "prompt": _tokens(next((record[key] for key in _TEXTS if key in record), None))}
    yield flat if answer is None else flat | {"output_tokens": answer}
