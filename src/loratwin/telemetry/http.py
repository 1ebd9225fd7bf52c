"""HTTP GET with a bound on its time and size, over a connection that is kept."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from loratwin.errors import DataError, InputError

_MOST_BYTES = 64 * 2**20
_CLOSED = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


def root_url(url: str) -> str:
    """The server's address without the `/v1` or `/metrics` that people paste along.

    Raises
    ------
    InputError
        It is no http or https address.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{url!r}: expected an address like http://127.0.0.1:8000")
    path = parts.path.rstrip("/")
    for tail in ("/v1", "/metrics"):
        path = path.removesuffix(tail)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"


class Connection:
    """A connection to one server, opened when it is needed.

    Parameters
    ----------
    headers
        Sent with each request, as that with an API key; written nowhere.
    timeout_s
        For the whole of one request.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, timeout_s: float = 10.0) -> None:
        self.url = root_url(url)
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._http = kind(parts.hostname or "", parts.port)
        self._path, self._headers, self._timeout_s = parts.path, dict(headers or {}), timeout_s
        self._cut = False

    def get(self, path: str) -> bytes:
        """The body of an answer with status 200.

        Raises
        ------
        DataError
            Another status, no answer in time, or none at all.
        """
        end_s = time.monotonic() + self._timeout_s
        try:
            try:
                return self._get(path, end_s)
            except _CLOSED:  # a kept connection that the server has closed since; once more on a fresh one
                self._http.close()
                if self._cut:
                    raise
                return self._get(path, end_s)
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            raise DataError(f"{self.url}{path}: {_reason(error)}") from None
        except BaseException:
            self._http.close()  # it may hold the rest of an answer
            raise

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

    def _get(self, path: str, end_s: float) -> bytes:
        self._limit(end_s)
        self._http.request("GET", f"{self._path}{path}", headers={"Accept": "*/*", **self._headers})
        response = self._http.getresponse()
        body = bytearray()
        while chunk := response.read1(1 << 16):
            body += chunk
            if len(body) > _MOST_BYTES:
                raise DataError(f"{self.url}{path}: an answer of more than {_MOST_BYTES >> 20} MiB")
            self._limit(end_s)
        response.close()  # read1 leaves it open, and the connection would not be used again
        if response.status != 200:
            raise DataError(f"{self.url}{path}: HTTP {response.status}")
        return bytes(body)

    def _limit(self, end_s: float) -> None:
        """What is left of the time is what the socket may wait."""
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._http.timeout = left_s
        if self._http.sock is not None:
            self._http.sock.settimeout(left_s)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
