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


class RequestMaker:
    """Makes the bytes of any request.

    Parameters
    ----------
    names
        The adapters' names on the server; the last is the LLM's own.
    headers
        Sent with every request; an API key is one of them, and is kept nowhere else.
    continuous_usage
        Ask for a count with every event, not only with the last.
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
        continuous_usage: bool = True,
        first_prompt: int = 0,
    ) -> None:
        self._prompts, self._first_prompt = prompts, first_prompt
        target = "/v1/completions" if api == "completions" else "/v1/chat/completions"
        self._heads = [_head(endpoint, target, headers or {}) for endpoint in endpoints]
        opening, self._closing = _around_prompt(api)
        self._openings = [b'{"model":' + json.dumps(name).encode() + opening for name in names]
        self._tail, self._tail_with_ids = _tail(continuous_usage), _tail(continuous_usage, return_token_ids=True)
        self._limit = b',"max_tokens":'  # max_completion_tokens of OpenAI's chat is a synonym in vLLM and SGLang

    def make(self, server: int, adapter: int, row: int, prompt_tokens: int, output_tokens: int) -> bytes:
        """The whole request. `adapter` -1 is the LLM without one."""
        body = b"".join(
            (
                self._openings[adapter], self._prompts.value(self._first_prompt + row, prompt_tokens),
                self._closing, self._limit, b"%d" % output_tokens,
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


def _tail(continuous_usage: bool, return_token_ids: bool = False) -> bytes:
    options: dict[str, object] = {
        "stream": True,
        "stream_options": {"include_usage": True, **({"continuous_usage_stats": True} if continuous_usage else {})},
        "ignore_eos": True,  # vLLM's and SGLang's own: the length is then exactly what was asked for
        "temperature": 0,
        **({"return_token_ids": True} if return_token_ids else {}),  # vLLM's, by 0.11; others leave it alone
    }
    return b"," + json.dumps(options, separators=(",", ":")).encode()[1:]
