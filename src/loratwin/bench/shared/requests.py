"""Requests as bytes: HTTP head and JSON body, made just before they are sent and from parts made before the start."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import urlsplit

from loratwin.errors import InputError

Api = Literal["completions", "chat"]


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens."""

    host: str
    port: int
    tls: bool
    path: str  # before /v1, without a slash at its end

    @property
    def authority(self) -> str:
        """As in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """As the user would write it."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.path}"


def parse_url(url: str) -> Endpoint:
    """Read `http://host:8000`, with or without /v1 at its end.

    Raises
    ------
    InputError
        It is no such URL, or holds a password.
    """
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        port = parts.port
    except ValueError as error:
        raise InputError(f"--url {url!r}: {error}; it looks like http://127.0.0.1:8000") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InputError(f"--url {url!r}: it looks like http://127.0.0.1:8000")
    if parts.username or parts.password:
        raise InputError("--url holds a user or a password, which would end up in records; use an API key")
    tls = parts.scheme == "https"
    path = parts.path.rstrip("/").removesuffix("/v1")
    return Endpoint(parts.hostname, port or (443 if tls else 80), tls, path)


class Prompts(Protocol):
    """Where prompts come from."""

    def value(self, row: int, num_tokens: int) -> bytes:
        """The JSON value of `prompt` (completions), or of a message's `content` (chat)."""

    def repeats_answer(self, row: int) -> bool:
        """Whether a later prompt repeats the answer to this row, so that its token ids are wanted."""

    def answered(self, row: int, token_ids: Sequence[int]) -> None:
        """What the answer was."""


@dataclass(frozen=True)
class RequestForm:
    """What is sent beside the LLM, a prompt and a limit: all of it, or what a server takes.

    Parameters
    ----------
    token_ids
        Prompts are token ids (completions), else texts.
    stream_options
        Ask for a count of tokens in the end.
    continuous_usage
        With every event, too.
    ignore_eos
        The length is then exactly what was asked for (vLLM's and SGLang's own; llama.cpp has it, too).
    min_tokens
        Says the same where that is refused.
    temperature
        0: no sampling.
    """

    token_ids: bool = True
    stream_options: bool = True
    continuous_usage: bool = True
    ignore_eos: bool = True
    min_tokens: bool = False
    temperature: bool = True

    @property
    def left_out(self) -> tuple[str, ...]:
        """What a server refused, by name; `min_tokens` where lengths are not controlled at all."""
        names = ("token_ids", "stream_options", "continuous_usage", "ignore_eos", "temperature")
        refused = tuple(name for name in names if not getattr(self, name))
        return (*refused, "min_tokens") if not (self.ignore_eos or self.min_tokens) else refused

    def fields(self, return_token_ids: bool = False) -> dict[str, object]:
        """Fields of every request."""
        continuous = {"continuous_usage_stats": True} if self.continuous_usage else {}
        fields: dict[str, object] = {"stream": True}
        fields |= {"stream_options": {"include_usage": True, **continuous}} if self.stream_options else {}
        fields |= {"ignore_eos": True} if self.ignore_eos else {}
        fields |= {"temperature": 0} if self.temperature else {}
        if return_token_ids:  # vLLM's, by 0.11; others leave it alone
            fields["return_token_ids"] = True
        return fields


FULL = RequestForm()

PATHS: dict[Api, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


class RequestMaker:
    """Makes the bytes of any request.

    Parameters
    ----------
    names
        The adapters' names on the server; the last is the LLM's own.
    headers
        Sent with every request; an API key is one of them, and is kept nowhere else.
    form
        What is sent beside the prompt.
    first_prompt
        Which prompt row 0 has; those after it follow.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        names: Sequence[str],
        prompts: Prompts,
        api: Api = "completions",
        headers: Mapping[str, str] | None = None,
        form: RequestForm = FULL,
        first_prompt: int = 0,
    ) -> None:
        self._prompts, self._first_prompt = prompts, first_prompt
        self._heads = [_head(endpoint, PATHS[api], headers or {}) for endpoint in endpoints]
        opening, self._closing = _around_prompt(api)
        self._openings = [b'{"model":' + json.dumps(name).encode() + opening for name in names]
        self._tail, self._tail_with_ids = _tail(form.fields()), _tail(form.fields(return_token_ids=True))
        # max_completion_tokens of OpenAI's chat is a synonym in vLLM and SGLang
        self._limit = b',"min_tokens":%d,"max_tokens":%d' if form.min_tokens else b',"max_tokens":%d'
        self._limits = 2 if form.min_tokens else 1

    def make(self, server: int, adapter: int, row: int, prompt_tokens: int, output_tokens: int) -> bytes:
        """The whole request. `adapter` -1 is the LLM without one."""
        body = b"".join(
            (
                self._openings[adapter], self._prompts.value(self._first_prompt + row, prompt_tokens),
                self._closing, self._limit % ((output_tokens,) * self._limits),
                self._tail_with_ids if self.repeats_answer(row) else self._tail,
            )
        )  # fmt: skip
        return b"%b%d\r\n\r\n%b" % (self._heads[server], len(body), body)

    def repeats_answer(self, row: int) -> bool:
        """Whether a later prompt repeats the answer to this row."""
        return self._prompts.repeats_answer(self._first_prompt + row)

    def answered(self, row: int, token_ids: Sequence[int]) -> None:
        """What the answer to such a row was; empty: the server did not say."""
        self._prompts.answered(self._first_prompt + row, token_ids)


def _head(endpoint: Endpoint, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [
        f"POST {endpoint.path}{target} HTTP/1.1",
        f"Host: {endpoint.authority}",
        *(f"{name}: {value}" for name, value in headers.items()),
        "Content-Type: application/json",
        "Content-Length: ",
    ]
    return "\r\n".join(lines).encode()


def _around_prompt(api: Api) -> tuple[bytes, bytes]:
    if api == "completions":
        return b',"prompt":', b""
    return b',"messages":[{"role":"user","content":', b"}]"


def _tail(fields: Mapping[str, object]) -> bytes:
    return b"," + json.dumps(fields, separators=(",", ":")).encode()[1:]
