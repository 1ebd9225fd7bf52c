"""HTTP questions to servers, GET and POST, with a bound on time and size, over a connection that is kept; no proxy.

The load client has a client of its own (`loratwin.bench.worker`), which times every byte.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from loratwin.errors import DataError, InputError

NO_ANSWER = 0
"""Status of an `Answer` that never came."""

_MOST_BYTES = 64 * 2**20
_CLOSED = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


def root_url(url: str) -> str:
    """The server's address without the `/v1` or `/metrics` that people paste along.

    Raises
    ------
    InputError
        It is no http or https address.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:  # a port that is none
        wrong = True
    if wrong:
        raise InputError(f"{url!r}: expected an address like http://127.0.0.1:8000")
    path = parts.path.rstrip("/")
    for tail in ("/v1", "/metrics"):
        path = path.removesuffix(tail)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"


def bearer(api_key: str | None) -> dict[str, str]:
    """Headers with an API key as OpenAI's servers take it; none without one."""
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


class Answer(NamedTuple):
    """What came back."""

    status: int
    """HTTP status; 0: no answer, and the text says why."""
    body: bytes

    @property
    def ok(self) -> bool:
        return self.status == 200

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class NoAnswerError(DataError):
    """A server did not answer: in time, with less than 64 MiB, or at all."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"{url}: {reason}")
        self.reason = reason


class Connection:
    """A connection to one server, opened when it is needed. Closed at the end of a `with`.

    Parameters
    ----------
    headers
        Sent with each request, as that with an API key; written nowhere.
    timeout_s
        For the whole of one request.

    Raises
    ------
    InputError
        As `root_url`.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, timeout_s: float = 10.0) -> None:
        self.url = root_url(url)
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._http = kind(parts.hostname or "", parts.port)
        self._path, self._headers, self._timeout_s = parts.path, dict(headers or {}), timeout_s
        self._cut = False

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def request(self, path: str, body: Any = None) -> Answer:
        """GET, or POST of JSON when there is a body; what comes back, whatever its status.

        Raises
        ------
        NoAnswerError
            Nothing usable came in time.
        """
        end_s = time.monotonic() + self._timeout_s
        kept = self._http.sock is not None
        try:
            try:
                return self._request(path, body, end_s)
            except _CLOSED:  # a kept connection that the server has closed since; once more on a fresh one
                self._http.close()
                if self._cut or not kept:
                    raise
                return self._request(path, body, end_s)
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            raise NoAnswerError(f"{self.url}{path}", _reason(error)) from None
        except BaseException:
            self._http.close()  # it may hold the rest of an answer
            raise

    def get(self, path: str) -> bytes:
        """The body of an answer with status 200.

        Raises
        ------
        DataError
            Another status, no answer in time, or none at all.
        """
        answer = self.request(path)
        if not answer.ok:
            raise DataError(f"{self.url}{path}: HTTP {answer.status}")
        return answer.body

    def get_json(self, path: str) -> Any:
        """As `get`, and that the answer is JSON."""
        try:
            return json.loads(self.get(path))
        except ValueError:
            raise DataError(f"{self.url}{path}: the answer is not JSON") from None

    def cut_off(self) -> None:
        """End a request that another thread waits for; there will be no other."""
        self._cut = True
        if self._http.sock is not None:
            with suppress(OSError):
                self._http.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it; a later request opens it again."""
        self._http.close()

    def _request(self, path: str, body: Any, end_s: float) -> Answer:
        self._limit(end_s)
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body).encode())
        kind = {} if body is None else {"Content-Type": "application/json"}
        self._http.request(method, f"{self._path}{path}", data, {"Accept": "*/*", **kind, **self._headers})
        response = self._http.getresponse()
        received = bytearray()
        while chunk := response.read1(1 << 16):
            received += chunk
            if len(received) > _MOST_BYTES:
                raise NoAnswerError(f"{self.url}{path}", f"an answer of more than {_MOST_BYTES >> 20} MiB")
            self._limit(end_s)
        if response.length:  # what was announced and never came
            raise http.client.IncompleteRead(bytes(received), response.length)
        response.close()  # read1 leaves it open, and the connection would not be used again
        return Answer(response.status, bytes(received))

    def _limit(self, end_s: float) -> None:
        """What is left of the time is what the socket may wait."""
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._http.timeout = left_s
        if self._http.sock is not None:
            self._http.sock.settimeout(left_s)


def ask(
    url: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, timeout_s: float = 5.0
) -> Answer:
    """One question on a connection of its own; never raises for what the server does.

    Parameters
    ----------
    body
        None: GET, else POST of it as JSON.
    """
    with Connection(url, headers, timeout_s) as connection:
        try:
            return connection.request(path, body)
        except NoAnswerError as error:
            return Answer(NO_ANSWER, error.reason.encode())


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
