"""An HTTP server that shows a registry of prometheus_client, and misbehaves when it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest


class MetricsServer:
    """`pages` are the answers by path; a page that is not text or bytes is JSON."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.pages: dict[str, Callable[[], Any]] = {"/metrics": lambda: generate_latest(self.registry)}
        self.status = 200
        self.hang_s = 0.0
        self.seen: list[tuple[float, str, str]] = []  # time, path, key
        self.connections = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                server.connections += 1
                super().setup()

            def do_GET(self) -> None:
                server.seen.append((time.monotonic(), self.path, self.headers.get("Authorization", "")))
                time.sleep(server.hang_s)
                page = server.pages.get(self.path)
                body = page() if page is not None else b""
                if not isinstance(body, (bytes, str)):
                    body = json.dumps(body)
                body = body.encode() if isinstance(body, str) else body
                self.send_response(server.status if page is not None else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                with suppress(ConnectionError):  # a client that did not wait
                    super().handle()

        return Handler

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def metrics_server() -> Iterator[MetricsServer]:
    server = MetricsServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
