"""`profile_export.json` of GenAI-Perf (Perf Analyzer): when each request was sent, and what came when.

It has no numbers of tokens but where a server told them (`usage`): GenAI-Perf counts by a tokenizer afterwards. Here an
event of a stream with text is a token, as vLLM sends it, and other texts are estimated by their length. Times are
nanoseconds of the client's clock. Read in genai-perf's `profile_data_parser` and its tests.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from loratwin.calibrate.results.table import BenchmarkResult, Sent
from loratwin.errors import DataError
from loratwin.traces.nested import CHARACTERS_PER_TOKEN

ESTIMATED = (
    f"lengths are estimated where the server told no usage: {CHARACTERS_PER_TOKEN} characters of a prompt to a token, "
    "an event of a stream is one"
)


def genai_perf_form(data: Any, where: str) -> list[BenchmarkResult] | None:
    """A report of Perf Analyzer: each of its experiments is a result.

    Raises
    ------
    DataError
        It holds no request, or one that is not in this form.
    """
    if not isinstance(data, dict) or not isinstance(data.get("experiments"), list):
        return None
    try:
        results = [_result(one) for one in data["experiments"]]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{where}: not a profile_export.json of GenAI-Perf ({error!r})") from None
    kept = [result for result in results if result.requests]
    if not kept:
        raise DataError(f"{where}: no request of GenAI-Perf is in it")
    return kept


def _result(experiment: Mapping[str, Any]) -> BenchmarkResult:
    about = experiment.get("experiment") or {}
    read = [_request(one) for one in experiment.get("requests") or ()]
    notes = [ESTIMATED] if any(estimated for _, estimated in read) else []
    name = f"{about.get('mode', '')}-{about.get('value', '')}".strip("-")
    return BenchmarkResult("GenAI-Perf", [sent for sent, _ in read], notes=notes, name=name)


class _Event(NamedTuple):
    """What came at one time."""

    at_s: float
    text: str
    usage: Mapping[str, Any]
    error: str


def _request(one: Mapping[str, Any]) -> tuple[Sent, bool]:
    """A request, and whether its lengths are estimated."""
    start_s = float(one["timestamp"]) / 1e9
    asked = _asked(one.get("request_inputs"))
    stamps = [float(at) / 1e9 for at in one.get("response_timestamps") or ()]
    outputs = one.get("response_outputs") or [{}] * len(stamps)
    events = [event for at, said in zip(stamps, outputs, strict=True) for event in _events(at, said)]
    usage: Mapping[str, Any] = next((event.usage for event in reversed(events) if event.usage), {})
    texts = [event for event in events if event.text]
    error = next((event.error for event in events if event.error), "" if stamps else "no answer")
    output = int(usage.get("completion_tokens", _generated(texts)))
    gaps_s = tuple(later.at_s - earlier.at_s for earlier, later in pairwise(texts))
    sent = Sent(
        start_s=start_s,
        first_s=texts[0].at_s if texts else stamps[-1] if stamps else math.nan,
        end_s=texts[-1].at_s if texts else stamps[-1] if stamps else start_s,
        prompt_tokens=int(usage.get("prompt_tokens", _prompt_tokens(asked))),
        output_tokens=output,
        failure=error,
        model=str(asked.get("model") or ""),
        gaps_s=gaps_s if gaps_s or output <= 1 else None,
    )
    return sent, not usage


def _asked(inputs: Any) -> Mapping[str, Any]:
    """The body of a request: JSON in `payload`, or Triton's inputs by name."""
    said = inputs.get("payload", inputs) if isinstance(inputs, dict) else inputs
    said = json.loads(said) if isinstance(said, str) else said
    said = said[0] if isinstance(said, list) and said else said
    return said if isinstance(said, dict) else {}


def _prompt_tokens(asked: Mapping[str, Any]) -> int:
    prompt = asked.get("prompt", asked.get("text_input"))
    if isinstance(prompt, list) and prompt and all(isinstance(token, int) for token in prompt):
        return len(prompt)
    if prompt is None:
        prompt = [message.get("content") for message in asked.get("messages") or () if isinstance(message, dict)]
    return math.ceil(sum(map(len, _texts(prompt))) / CHARACTERS_PER_TOKEN)


def _texts(said: Any) -> Iterator[str]:
    """All texts of a prompt: one, several, or the parts of messages."""
    if isinstance(said, str):
        yield said
    for part in said if isinstance(said, list) else ():
        yield from _texts(part.get("text") if isinstance(part, dict) else part)


def _generated(texts: list[_Event]) -> int:
    if len(texts) > 1:
        return len(texts)
    return math.ceil(sum(len(event.text) for event in texts) / CHARACTERS_PER_TOKEN)


def _events(at_s: float, output: Any) -> Iterator[_Event]:
    """Events of what came at one time, which may be several of a stream."""
    said = output.get("response", output.get("text_output", "")) if isinstance(output, dict) else output
    if isinstance(output, dict) and "response" not in output:
        yield _Event(at_s, str(said), {}, "")
        return
    for line in str(said).splitlines():
        body = line.removeprefix("data:").strip()
        if body and body != "[DONE]" and not body.startswith(("event:", ":")):
            yield _event(at_s, body)


def _event(at_s: float, body: str) -> _Event:
    try:
        data = json.loads(body)
    except ValueError:
        return _Event(at_s, body, {}, "")
    if not isinstance(data, dict):
        return _Event(at_s, "", {}, "")
    choice = next(iter(data.get("choices") or ()), None) or {}
    message = choice.get("delta") or choice.get("message") or {}
    text = message.get("content") or message.get("reasoning_content") or choice.get("text") or ""
    error = data.get("error")
    kind = str(error.get("message") or error.get("type") or "failed") if isinstance(error, dict) else str(error or "")
    return _Event(at_s, str(text), data.get("usage") or {}, " ".join(kind.split())[:60])
