"""One streamed answer: server-sent events of the OpenAI API, completions and chat, from bytes to counted tokens."""

from __future__ import annotations

from typing import Any

from orjson import JSONDecodeError, loads

_MOST_TOKENS = 2**31 - 1


class MalformedStream(Exception):
    """The stream is not what the API promises; the text says in which way."""


class ErrorInStream(Exception):
    """The server reports an error in an event, with HTTP status 200 long sent."""


class StreamedAnswer:
    """What one answer has said so far. Feed it the bytes as they come.

    Attributes
    ----------
    tokens
        Output tokens so far: by the server's own count where each event carries it (`continuous_usage_stats`), else
        one for each event with text.
    counted_prompt, counted_output, counted_cached
        The server's final count, and how much of the prompt its prefix cache had; -1: it did not say.
    token_ids
        Of the output, where they were asked for and the server tells them.
    finished
        The server gave a reason for finishing.
    done
        The closing event came.
    """

    __slots__ = (
        "_rest", "counted_cached", "counted_output", "counted_prompt", "done", "finished", "token_ids", "tokens",
    )  # fmt: skip

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Ready for the next answer."""
        self._rest = b""
        self.tokens = 0
        self.counted_prompt = self.counted_output = self.counted_cached = -1
        self.token_ids: list[int] = []
        self.finished = self.done = False

    def feed(self, data: bytes) -> None:
        """Take bytes of the body; whole events count at once.

        Raises
        ------
        MalformedStream, ErrorInStream
            As their names say.
        """
        if self._rest:
            data = self._rest + data
        if b"\r" in data:  # the other line end that the standard allows; JSON has none of its own
            data = data.replace(b"\r\n", b"\n")
        *events, self._rest = data.split(b"\n\n")
        for event in events:
            if event.startswith(b"data: {"):
                self._document(event[6:])
            else:
                self._other(event)

    def end(self) -> None:
        """The body is complete.

        Raises
        ------
        MalformedStream
            It ends in the middle of an event, or without the closing one.
        """
        if self._rest.strip():
            raise MalformedStream("ends in the middle of an event")
        if not (self.finished or self.done):
            raise MalformedStream("ends without a reason for finishing")

    def _other(self, event: bytes) -> None:
        """Everything but the usual event of one line."""
        for line in event.split(b"\n"):
            field, _, value = line.partition(b":")
            if field == b"data":
                self._data(value.strip())
            elif field not in (b"", b"event", b"id", b"retry"):  # an empty field is a comment, or a blank line
                raise MalformedStream(f"a line that is no event: {_shown(line)}")

    def _data(self, value: bytes) -> None:
        if value == b"[DONE]":
            self.done = True
        elif value:
            self._document(value)

    def _document(self, text: bytes) -> None:
        try:
            document = loads(text)
            choices, usage = document.get("choices"), document.get("usage")
            if choices is None:
                raise ErrorInStream(_error_text(document))
            self._count(choices[0] if choices else None, usage)
        except (JSONDecodeError, AttributeError, TypeError, KeyError, IndexError):
            raise MalformedStream(f"an event that is no answer: {_shown(text)}") from None

    def _count(self, choice: dict[str, Any] | None, usage: dict[str, Any] | None) -> None:
        if choice is None:
            if usage:
                self._final_count(usage)
            return
        if ids := choice.get("token_ids"):
            self.token_ids.extend(map(_number, ids))
        if usage:
            self.tokens = _number(usage["completion_tokens"])
        elif choice.get("text") or _chat_text(choice):
            self.tokens += 1
        if choice.get("finish_reason") is not None:
            self.finished = True
            if usage:  # the last count, where no event of its own has it (transformers, Ollama)
                self._final_count(usage)

    def _final_count(self, usage: dict[str, Any]) -> None:
        self.counted_prompt = _number(usage["prompt_tokens"])
        self.counted_output = _number(usage["completion_tokens"])
        details = usage.get("prompt_tokens_details")
        if details and details.get("cached_tokens") is not None:
            self.counted_cached = _number(details["cached_tokens"])


def _number(value: Any) -> int:
    """A count of tokens; the journal holds 32 bits."""
    if type(value) is not int or not 0 <= value <= _MOST_TOKENS:
        raise MalformedStream(f"a count of tokens that is none: {_shown(str(value).encode())}")
    return value


def _chat_text(choice: dict[str, Any]) -> bool:
    """Text of a chat's event, thoughts and calls of tools included; its first event has a role and no text."""
    delta = choice.get("delta") or {}
    return any(delta.get(key) for key in ("content", "reasoning_content", "reasoning", "tool_calls"))


def _error_text(document: Any) -> str:
    error = document.get("error", document) if isinstance(document, dict) else document
    message = error.get("message", error) if isinstance(error, dict) else error
    return _shown(str(message).encode())


def _shown(text: bytes) -> str:
    return repr(text[:80].decode("utf-8", "replace"))
