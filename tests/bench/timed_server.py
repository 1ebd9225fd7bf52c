"""A server with exactly known timing, as a process of its own: the truth that the client is compared with.

It streams completions: the first token `ttft` after the request is complete, then one every `itl`. What it did is
written to a file at its end: when each request came and what was sent. Names of models choose misbehaviour:
`status-500`, `cut-3` (closes after 3 tokens), `malformed-3`, `error-3`, `fewer` (half of the tokens), `unreasoned`
(no reason for finishing), `silent` (never answers), `once-x` (a connection is answered once, and closed when it is
used again).
With `--models`, the first is the LLM and the others are its adapters; more can be loaded as into vLLM.

Run it: python -m tests.bench.timed_server --port 8000 --ttft 0.02 --itl 0.005
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import signal
import ssl
from functools import cache
from itertools import count
from time import monotonic
from typing import Any

import uvloop
from httptools import HttpRequestParser
from orjson import loads

from loratwin.bench.worker.pacer import make_pacer

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
TEMPLATE_TOKENS = 7  # that a chat adds to its words
LAST = b"0\r\n\r\n"


class Truth:
    """What came and what was sent."""

    def __init__(self) -> None:
        self.requests: list[list[Any]] = []  # time, model, prompt and output tokens, first and last token sent
        self.prompts: list[Any] = []  # of each of them, token ids or a text
        self.tokens_sent = 0
        self.late_s = 0.0
        self.cancelled = 0
        self.connections = 0
        self.keys: list[str] = []  # values of the header Authorization, each once

    def write(self, path: str) -> None:
        with open(path, "w") as file:
            json.dump(vars(self), file)


class Clock:
    """Calls every stream at its times, as late as one timer and one loop make it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, truth: Truth) -> None:
        self._due: list[tuple[float, int, Stream]] = []
        self._number = count()
        self._pacer = make_pacer(loop, self._wake)
        self._truth = truth

    def at(self, time_s: float, stream: Stream) -> None:
        earliest = not self._due or time_s < self._due[0][0]
        heapq.heappush(self._due, (time_s, next(self._number), stream))
        if earliest:
            self._pacer.set(time_s)

    def _wake(self) -> None:
        due = self._due
        while due and due[0][0] <= (now := monotonic()):
            at, _, stream = due[0]
            self._truth.late_s += now - at
            again = stream.tick()
            if again is None:
                heapq.heappop(due)
            else:
                heapq.heapreplace(due, (again, next(self._number), stream))
        if due:
            self._pacer.set(due[0][0])


class Stream:
    """One answer: HTTP's head and the first token at once, then a token at a time."""

    __slots__ = (
        "at", "chat", "connection", "fault", "first_s", "last", "model", "options", "output", "prompt", "seen",
        "sent",
    )  # fmt: skip

    def __init__(self, connection: Connection, body: dict[str, Any], first_s: float) -> None:
        self.connection, self.first_s, self.sent = connection, first_s, 0
        self.model, self.output = body["model"], body["max_tokens"]
        self.prompt = prompt_tokens(body)
        self.options = body.get("stream_options") or {}
        self.chat = "messages" in body
        self.fault, _, at = self.model.partition("-")
        self.at = int(at) if self.fault in ("cut", "malformed", "error") else 1 << 30
        self.seen: list[Any] = []
        self.last = self.output // 2 if self.fault == "fewer" else self.output

    def token(self, last: bool) -> bytes:
        continuous = bool(self.options.get("continuous_usage_stats"))
        return token_chunk(self.chat, last and self.fault != "unreasoned", self.prompt if continuous else -1, self.sent)

    def tick(self) -> float | None:
        """Send the next token; when the one after it is due."""
        connection = self.connection
        if connection.closed:
            return None
        self.sent += 1
        connection.server.truth.tokens_sent += 1
        self.seen[4 if self.sent == 1 else 5] = monotonic()
        if self.sent > self.at:
            self.misbehave(self.fault)
            return None
        last = self.sent == self.last
        connection.transport.write((HEAD if self.sent == 1 else b"") + self.token(last) + (self.end() if last else b""))
        return None if last else self.first_s + self.sent * connection.server.itl_s

    def misbehave(self, fault: str) -> None:
        transport = self.connection.transport
        if fault == "malformed":
            transport.write(chunked(b"data: {not json\n\n"))
        elif fault == "error":
            transport.write(chunked(b'data: {"error":{"message":"engine died"}}\n\n'))
        transport.close()
        self.connection.server.truth.tokens_sent -= 1

    def end(self) -> bytes:
        counted = usage(self.prompt, self.sent)
        usage_chunk = chunked(b'data: {"choices":[],%b}\n\n' % counted) if self.options else b""
        return usage_chunk + chunked(b"data: [DONE]\n\n") + LAST


def prompt_tokens(body: dict[str, Any]) -> int:
    """Token ids are counted, of a text its words."""
    if "messages" in body:
        return TEMPLATE_TOKENS + len(body["messages"][0]["content"].split())
    prompt = body["prompt"]
    return len(prompt if isinstance(prompt, list) else prompt.split())


def usage(prompt: int, tokens: int) -> bytes:
    return b'"usage":{"prompt_tokens":%d,"completion_tokens":%d}' % (prompt, tokens)


@cache
def token_chunk(chat: bool, last: bool, prompt: int, tokens: int) -> bytes:
    """An event with one token; `prompt` -1: without the server's count."""
    text = b'"delta":{"content":" a"}' if chat else b'"text":" a"'
    reason, counted = b'"length"' if last else b"null", b"" if prompt < 0 else b"," + usage(prompt, tokens)
    event = b'data: {"id":"cmpl-1","choices":[{"index":0,%b,"finish_reason":%b}]%b}\n\n'
    return chunked(event % (text, reason, counted))


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.closed = False
        self.parser = HttpRequestParser(self)
        self.body: list[bytes] = []
        self.used = 0
        self.key = ""
        server.truth.connections += 1

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name != b"Authorization":
            return
        self.key = value.decode()
        if self.key not in self.server.truth.keys:
            self.server.truth.keys.append(self.key)

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        now = monotonic()
        text = b"".join(self.body)
        self.body.clear()
        refused = self.server.key and self.key != f"Bearer {self.server.key}"
        if refused:
            self.answer(401, {"error": "Unauthorized"})
        elif self.url == b"/v1/models":
            llm, *adapters = self.server.models or ["llm"]
            entries = [{"id": llm}, *({"id": name, "parent": llm} for name in adapters)]
            self.answer(200, {"data": entries})
        elif self.url == b"/v1/load_lora_adapter":
            self.server.models.append(loads(text)["lora_name"])
            self.answer(200, {})
        elif self.parser.get_method() == b"GET":
            self.answer(200 if self.url == b"/health" else 404, {})
        else:
            self.complete(loads(text), now)

    def complete(self, body: dict[str, Any], now: float) -> None:
        model = body["model"]
        if not body.get("stream"):
            self.answer(200, {"usage": {"prompt_tokens": prompt_tokens(body), "completion_tokens": 1}})
            return
        stream = Stream(self, body, now + self.server.ttft_s)
        self.used += 1
        if model.startswith("once-") and self.used > 1:  # as a server that closes an idle connection just then
            self.transport.close()
            return
        stream.seen = [now, model, stream.prompt, stream.output, None, None]
        self.server.truth.requests.append(stream.seen)
        self.server.truth.prompts.append(body["messages"][0]["content"] if stream.chat else body["prompt"])
        if model.startswith("status-"):
            self.answer(int(model.partition("-")[2]), {"error": {"message": "as asked for"}})
        elif self.server.models and model not in self.server.models:
            self.answer(404, {"error": {"message": f"The model `{model}` does not exist."}})
        elif model != "silent":
            self.server.clock.at(stream.first_s, stream)

    def answer(self, status: int, document: Any) -> None:
        text = json.dumps(document).encode()
        self.transport.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(text), text))


class Server:
    def __init__(self, loop: asyncio.AbstractEventLoop, arguments: argparse.Namespace) -> None:
        self.ttft_s, self.itl_s, self.models = arguments.ttft, arguments.itl, arguments.models
        self.key = arguments.key
        self.truth = Truth()
        self.clock = Clock(loop, self.truth)


async def serve(arguments: argparse.Namespace) -> None:
    import gc

    loop = asyncio.get_running_loop()
    server = Server(loop, arguments)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if arguments.certificate else None
    if tls is not None:
        tls.load_cert_chain(arguments.certificate)
    listener = await loop.create_server(lambda: Connection(server), "127.0.0.1", arguments.port, backlog=4096, ssl=tls)
    print(listener.sockets[0].getsockname()[1], flush=True)
    stopped = loop.create_future()
    loop.add_signal_handler(signal.SIGTERM, stopped.set_result, None)
    gc.disable()
    await stopped
    if arguments.truth:
        server.truth.write(arguments.truth)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ttft", type=float, default=0.02)
    parser.add_argument("--itl", type=float, default=0.005)
    parser.add_argument("--truth")
    parser.add_argument("--certificate", help="PEM file with certificate and key: serve TLS")
    parser.add_argument("--key", help="refuse requests without this API key")
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--model", help="with --lora-modules NAME=PATH ..., as vLLM takes them")
    parser.add_argument("--lora-modules", nargs="*", default=[])
    parser.add_argument("line", nargs="*", help="not looked at: what /proc has as the line of an engine")
    arguments, _ = parser.parse_known_args()  # others of vLLM's, too
    if arguments.model:
        arguments.models = [arguments.model, *(module.partition("=")[0] for module in arguments.lora_modules)]
    uvloop.run(serve(arguments))


if __name__ == "__main__":
    main()
