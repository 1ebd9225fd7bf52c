"""One connection to a server: a request at a time, kept and used again."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

from httptools import HttpParserError, HttpResponseParser

from loratwin.bench.worker.events import ErrorInStream, MalformedStream, StreamedAnswer

_ERROR_BODY = 4096  # bytes of an error's text that are kept


class Owner(Protocol):
    """Who sends requests over connections and is told what comes of them."""

    def on_tokens(self, connection: StreamConnection, new: int, now: float) -> None:
        """Output tokens came."""

    def on_end(self, connection: StreamConnection, row: int, now: float) -> None:
        """The answer is complete; the connection is free if it is `reusable`."""

    def on_failure(self, connection: StreamConnection, row: int, kind: str, detail: str) -> None:
        """The request failed; the connection is free if it is `reusable`, else closed."""


class StreamConnection(asyncio.Protocol):
    """The client's side of HTTP/1.1; the parsing is llhttp's, by httptools.

    Attributes
    ----------
    row
        The request that is on the wire; -1: none.
    answer
        What has come of it.
    idle_since
        When the last answer ended, seconds on the monotonic clock.
    """

    __slots__ = (
        "_error", "_now", "_owner", "_parser", "answer", "idle_since", "request", "reusable", "row", "server",
        "started", "transport", "used",
    )  # fmt: skip

    def __init__(self, owner: Owner, server: int) -> None:
        self._owner, self.server = owner, server
        self.transport: asyncio.Transport | None = None
        self.answer = StreamedAnswer()
        self.row, self.idle_since, self.used = -1, monotonic(), 0
        self.request = b""
        self.started = False
        self.reusable = True
        self._error = b""
        self._now = 0.0
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def send(self, row: int, request: bytes) -> None:
        """Send a request; the connection must be free."""
        assert self.transport is not None and self.row < 0
        self.row, self.request, self.started, self._error = row, request, False, b""
        self.used += 1
        self.answer.restart()
        self.transport.write(request)

    def abort(self) -> None:
        """Close at once; the server notices, and stops working for a request that is on the wire."""
        self.row = -1
        if self.transport is not None:
            self.transport.abort()

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Bytes came: take the time first, then look at them."""
        self._now = monotonic()
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, ErrorInStream):
                self._fail("error in the stream", str(cause))
            elif isinstance(cause, MalformedStream):
                self._fail("malformed stream", str(cause))
            else:
                self._fail("malformed HTTP", str(error))

    def connection_lost(self, error: Exception | None) -> None:
        """The server, the network or we closed it."""
        self.reusable = False
        self.transport = self._parser = None  # they point back here, and nobody collects cycles in mid-run
        if self.row < 0:
            return  # idle; whoever takes it from the pool sees that it is not reusable
        if not self.started:
            self._fail("connection closed before an answer", str(error or ""))
        elif self.answer.finished and self.answer.done:  # complete, but for HTTP's own closing mark
            self._finish()
        else:
            self._fail("stream cut off", f"after {self.answer.tokens} tokens")

    # --- what the parser calls

    def on_message_begin(self) -> None:
        """An answer begins."""
        self.started = True

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self.row < 0:
            return
        assert self._parser is not None
        if self._parser.get_status_code() != 200:
            self._error = (self._error + body)[:_ERROR_BODY]
            return
        answer = self.answer
        before, ended = answer.tokens, answer.finished
        answer.feed(body)
        if answer.tokens != before or answer.finished != ended:
            self._owner.on_tokens(self, answer.tokens - before, self._now)

    def on_message_complete(self) -> None:
        """The answer is complete."""
        assert self._parser is not None
        self.reusable = self._parser.should_keep_alive()
        if self.row < 0:
            return
        status = self._parser.get_status_code()
        if status != 200:
            self._fail(f"HTTP {status}", _text(self._error), keep=self.reusable)
            return
        self.answer.end()
        self._finish()

    def _finish(self) -> None:
        row, self.row = self.row, -1  # first, since the owner may send the next request at once
        self.idle_since = self._now
        self._owner.on_end(self, row, self._now)

    def _fail(self, kind: str, detail: str, keep: bool = False) -> None:
        row, self.row, self.reusable = self.row, -1, keep
        if not keep and self.transport is not None:
            self.transport.abort()
        if row >= 0:
            self.idle_since = self._now
            self._owner.on_failure(self, row, kind, detail)


def _text(body: bytes) -> str:
    """The server's message in an error's body: OpenAI's form, FastAPI's, or whatever it is."""
    from orjson import JSONDecodeError, loads

    try:
        document = loads(body)
    except JSONDecodeError:
        return " ".join(body.decode("utf-8", "replace").split())[:200]
    for key in ("error", "message", "detail"):
        if isinstance(document, dict) and key in document:
            document = document[key]
    return str(document)[:200]
