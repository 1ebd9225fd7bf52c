"""Questions to servers: what is sent, what comes back, and what is said when nothing does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from loratwin.errors import DataError, InputError
from loratwin.http import NO_ANSWER, Connection, NoAnswerError, ask, bearer, root_url
from tests.processes import LIMIT_S


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked; keeps connections, but for the path /once."""

    protocol_version = "HTTP/1.1"
    peers: list[Any]

    def do_GET(self) -> None:
        self.peers.append(self.client_address)
        if self.path == "/drop":
            self.close_connection = True
            return
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        key, kind = self.headers.get("Authorization"), self.headers.get("Content-Type")
        answer = json.dumps([self.command, self.path, body, key, kind]).encode()
        self.send_response(404 if self.path.endswith("/absent") else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer if not self.path.endswith("/text") else b"x" * len(answer))
        self.close_connection = self.path == "/once"  # without a word of it to the client

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def echo() -> Iterator[tuple[str, list[Any]]]:
    """Address, and from where each request came."""
    handler: Any = type("Handler", (Echo,), {"peers": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.peers
    finally:
        server.shutdown()
        server.server_close()
        thread.join(LIMIT_S)


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """Address of a server that sends these bytes to each client, then closes; without any, it says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepted = []

        def serve() -> None:
            for answer in answers or (b"",):
                client, _ = listening.accept()
                accepted.append(client)
                client.recv(65536)
                client.sendall(answer)
                if answers:
                    client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(LIMIT_S)
        for client in accepted:
            client.close()


def test_get_and_post_over_one_connection_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with echo() as (url, peers), Connection(f"{url}/tenant/v1", bearer("key")) as connection:
        assert json.loads(connection.get("/a")) == ["GET", "/tenant/a", None, "Bearer key", None]
        assert connection.request("/b", {"x": 1}).json() == [
            "POST", "/tenant/b", {"x": 1}, "Bearer key", "application/json",
        ]  # fmt: skip
        assert len(set(peers)) == 1


def test_a_kept_connection_that_was_closed_is_opened_again() -> None:
    with echo() as (url, peers), Connection(url) as connection:
        connection.get("/once")
        assert connection.get_json("/a")[1] == "/a"
        assert len(peers) == len(set(peers)) == 2


def test_a_request_that_may_have_been_heard_is_not_sent_twice() -> None:
    """The server took it, and closed before it answered."""
    with echo() as (url, peers), Connection(url) as connection:
        with pytest.raises(NoAnswerError, match="closed connection without response"):
            connection.request("/drop", {"x": 1})
        assert len(peers) == 1


def test_another_status_is_an_answer_and_for_get_an_error() -> None:
    with echo() as (url, _), Connection(url) as connection:
        answer = connection.request("/absent")
        assert (answer.status, answer.ok, answer.json()[1]) == (404, False, "/absent")
        with pytest.raises(DataError, match=f"^{url}/absent: HTTP 404$"):
            connection.get("/absent")
        assert connection.request("/text").json() is None
        with pytest.raises(DataError, match="/text: the answer is not JSON$"):
            connection.get_json("/text")


def test_no_answer_is_one_line_that_says_why() -> None:
    with answering() as url, pytest.raises(NoAnswerError, match=f"^{url}/a: no answer in time$"):
        Connection(url, timeout_s=0.2).request("/a")
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab") as url, Connection(url) as connection:
        with pytest.raises(NoAnswerError) as error:
            connection.request("/a")
        assert "\n" not in str(error.value) and str(error.value).startswith(f"{url}/a: IncompleteRead")
    answer = ask("http://127.0.0.1:9", "/a")
    assert (answer.status, answer.text, answer.ok) == (NO_ANSWER, "Connection refused", False)


def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loratwin.http._MOST_BYTES", 2**20)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n"
    with answering(head + b"x" * (2**20 + 1)) as url, pytest.raises(NoAnswerError, match="more than 1 MiB"):
        Connection(url).request("/a")


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("http://h:8000", "http://h:8000"),
        ("http://h:8000/", "http://h:8000"),
        ("h:8000/v1", "http://h:8000"),
        ("https://h/tenant/v1/", "https://h/tenant"),
        ("http://h:1/metrics", "http://h:1"),
        ("http://user:secret@h:1", "http://h:1"),
    ],
)
def test_addresses(given: str, root: str) -> None:
    assert root_url(given) == root


@pytest.mark.parametrize("given", ["", "ftp://h", "http://", "/v1", "http://h:99999", "h:port"])
def test_no_addresses(given: str) -> None:
    with pytest.raises(InputError, match="expected an address"):
        root_url(given)
