"""The load itself: sends each request at its time, over kept connections, and writes down what comes when.

Everything here runs in one process with nothing else in it: no scrapes, no progress bar, no garbage collection in
mid-run; see `loratwin.bench.worker`.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from math import log2
from time import monotonic
from typing import Protocol

from loratwin.bench.shared.failures import Failures
from loratwin.bench.shared.journal import COUNTERS, LEAST_GAP_S, RequestJournal
from loratwin.bench.shared.requests import Endpoint, RequestMaker
from loratwin.bench.worker.connection import StreamConnection
from loratwin.bench.worker.pacer import make_pacer
from loratwin.bench.worker.routers import ServerChooser

_SENT, _FINISHED, _FAILED, _TOKENS, _IN_FLIGHT, _CONNECTIONS, _SENT_AGAIN = (
    COUNTERS.index(name) for name in ("sent", "finished", "failed", "tokens", "in_flight", "connections", "sent_again")
)

MAX_IDLE_S = 3.0
"""Connections that idled longer are not used again: uvicorn, in front of vLLM and SGLang, closes them after 5 s."""


@dataclass(frozen=True)
class Window:
    """Absolute times on the monotonic clock."""

    start_s: float
    end_s: float


class Feed(Protocol):
    """Which request is to be sent next, and when: open loop or closed."""

    def start(self) -> float | None:
        """When the first request is due; None: there is none."""

    def next_due(self, now: float) -> int:
        """The row of a request that is due by now, -1 if there is none yet."""

    def when(self) -> float | None:
        """When the next request is due; None: not by the clock, or none is left."""

    def ended(self, row: int, now: float, failed: bool) -> None:
        """A request has ended."""

    @property
    def exhausted(self) -> bool:
        """All was sent, and the run ends when it is answered; an open loop waits for the end of its window."""


class Load:
    """Sends requests of a feed to servers, until the window ends.

    Parameters
    ----------
    router
        Chooses the server of each.
    journal
        Has the requests (adapter, lengths) and takes the times.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoints: Sequence[Endpoint],
        maker: RequestMaker,
        router: ServerChooser,
        journal: RequestJournal,
        failures: Failures,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._loop, self._endpoints, self._maker, self._tls = loop, endpoints, maker, tls
        self._router = router
        self.journal, self.failures = journal, failures
        self._idle: list[list[StreamConnection]] = [[] for _ in endpoints]
        self._busy: set[StreamConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._feed: Feed | None = None
        self._window = Window(0.0, 0.0)
        self._done: asyncio.Future[None] = loop.create_future()
        self._fatal: str | None = None
        self.bind()

    def bind(self) -> None:
        """Take the journal's columns, anew after it grew."""
        columns = self.journal.columns
        self._adapter, self._prompt, self._output = (
            columns["adapter"], columns["prompt_tokens"], columns["output_tokens"],
        )  # fmt: skip
        self._sent, self._first, self._last = columns["sent_s"], columns["first_token_s"], columns["last_token_s"]
        self._finish, self._received, self._failure = (
            columns["finish_s"], columns["received_tokens"], columns["failure"],
        )  # fmt: skip
        self._counted_prompt, self._counted_output = columns["counted_prompt"], columns["counted_output"]
        self._counted_cached, self._replica = columns["counted_cached"], columns["replica"]
        self._gaps, self._tokens, self._counters = self.journal.gaps, self.journal.tokens, self.journal.counters
        self._num_bins, self._per_octave = self.journal.shape.num_bins, self.journal.shape.per_octave
        self._base_row = self.journal.shape.num_adapters * self._num_bins

    # --- phases

    async def connect(self, num: int) -> None:
        """Open connections before they are needed; a server that refuses will say so when it is asked."""
        opened = [self._open(server) for server in range(len(self._endpoints)) for _ in range(num)]
        for connection in await asyncio.gather(*opened, return_exceptions=True):
            if isinstance(connection, StreamConnection):
                self._idle[connection.server].append(connection)
                self._counters[_CONNECTIONS] += 1

    async def run(self, feed: Feed, window: Window) -> None:
        """Send what the feed has until the window ends; then cut off what is still on its way."""
        self._feed, self._window = feed, window
        self._part_s = (window.end_s - window.start_s) / len(self._tokens)
        self._pacer = make_pacer(self._loop, self._wake)
        ender = make_pacer(self._loop, self._stop)
        self._pacer.set(feed.start() or window.end_s)
        ender.set(window.end_s)
        try:
            await self._done
        finally:
            self._pacer.close()
            ender.close()
            self._cut_off()

    def stop(self) -> None:
        """End the window now."""
        self._stop()

    def close(self) -> None:
        """Close all connections."""
        for pool in self._idle:
            for connection in pool:
                connection.abort()
            pool.clear()
        self.failures.close()

    # --- sending

    def _wake(self) -> None:
        feed = self._feed
        assert feed is not None
        now, end_s = monotonic(), self._window.end_s
        while now < end_s and (row := feed.next_due(now)) >= 0 and not self._done.done():
            self._send(row)
            now = monotonic()
        if (at := feed.when()) is not None:
            self._pacer.set(at)

    def _send(self, row: int) -> None:
        server = self._router.choose(row, self._adapter[row])
        self._replica[row] = server
        request = self._maker.make(server, self._adapter[row], row, self._prompt[row], self._output[row])
        connection = self._free(server)
        if connection is None:
            self._later(self._send_on_new(server, row, request))
        else:
            self._write(connection, row, request)

    def _write(self, connection: StreamConnection, row: int, request: bytes) -> None:
        counters = self._counters
        counters[_SENT] += 1
        counters[_IN_FLIGHT] += 1
        self._busy.add(connection)
        self._sent[row] = monotonic()
        connection.send(row, request)

    def _free(self, server: int) -> StreamConnection | None:
        """The connection that was used last, unless the server may be about to close it."""
        pool = self._idle[server]
        while pool:
            connection = pool.pop()
            if connection.reusable and monotonic() - connection.idle_since < MAX_IDLE_S:
                return connection
            connection.abort()
        return None

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._connecting.add(task)
        task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        self._stop_if_exhausted()

    async def _open(self, server: int) -> StreamConnection:
        endpoint = self._endpoints[server]
        connection = StreamConnection(self, server)
        await self._loop.create_connection(
            lambda: connection, endpoint.host, endpoint.port,
            ssl=self._tls if endpoint.tls else None,
        )  # fmt: skip
        return connection

    def _over(self) -> bool:
        """Whether the window has ended; its timer may come late when many tasks are at work."""
        return self._done.done() or monotonic() >= self._window.end_s

    async def _send_on_new(self, server: int, row: int, request: bytes, again: bool = False) -> None:
        if self._over():
            return
        try:
            connection = await self._open(server)
        except OSError as error:
            if self._over():
                return
            self._sent[row] = monotonic()
            self._counters[_SENT] += not again
            self._failed(row, *_connection_failure(error))
            return
        self._counters[_CONNECTIONS] += 1
        if self._over():
            connection.abort()
        elif again:
            self._counters[_IN_FLIGHT] += 1
            self._busy.add(connection)
            connection.send(row, request)
        else:
            self._write(connection, row, request)

    # --- what connections tell

    def on_tokens(self, connection: StreamConnection, new: int, now: float) -> None:
        """Write down when tokens came."""
        if now > self._window.end_s:
            return
        row = connection.row
        if new:
            if self._received[row]:
                gap = now - self._last[row]
                bin = int(log2(gap / LEAST_GAP_S) * self._per_octave) + 1 if gap > LEAST_GAP_S else 0
                adapter = self._adapter[row]
                at = (adapter * self._num_bins if adapter >= 0 else self._base_row) + min(bin, self._num_bins - 1)
                self._gaps[at] += 1
            else:
                self._first[row] = now
            self._received[row] += new
            self._last[row] = now
            self._counters[_TOKENS] += new
            self._tokens[min(int((now - self._window.start_s) / self._part_s), len(self._tokens) - 1)] += new
        if connection.answer.finished:
            self._finish[row] = now

    def on_end(self, connection: StreamConnection, row: int, now: float) -> None:
        """Write down the server's counts; tokens that came without text are found out here."""
        answer = connection.answer
        self._counters[_IN_FLIGHT] -= 1
        self._busy.discard(connection)
        if now <= self._window.end_s:
            self._counters[_FINISHED] += 1
            self._counted_prompt[row], self._counted_output[row] = answer.counted_prompt, answer.counted_output
            self._counted_cached[row] = answer.counted_cached
            self._make_up(row, answer.counted_output, now)
            if self._finish[row] != self._finish[row]:  # complete, without a reason for finishing
                self._finish[row] = self._last[row] if self._received[row] else now
        if self._maker.repeats_answer(row):
            self._maker.answered(row, answer.token_ids)
        self._release(connection)
        self._ended(row, now, failed=False)

    def on_failure(self, connection: StreamConnection, row: int, kind: str, detail: str) -> None:
        """Send again what a closing connection never delivered; all else has failed."""
        self._counters[_IN_FLIGHT] -= 1
        self._busy.discard(connection)
        if connection.used > 1 and not connection.started and not self._done.done():
            # the server closed an idle connection just as it was used, and has not looked at the request
            connection.used = 0
            self._counters[_SENT_AGAIN] += 1
            self._later(self._send_on_new(connection.server, row, connection.request, again=True))
            return
        self._failed(row, kind, detail)
        self._release(connection)

    # --- ends

    def _release(self, connection: StreamConnection) -> None:
        if connection.reusable:
            self._idle[connection.server].append(connection)

    def _make_up(self, row: int, counted: int, now: float) -> None:
        missing = counted - self._received[row]
        if missing <= 0 or counted < 0:
            return
        if not self._received[row]:
            self._first[row] = now
        self._received[row] += missing
        self._counters[_TOKENS] += missing
        self._tokens[min(int((now - self._window.start_s) / self._part_s), len(self._tokens) - 1)] += missing
        if self._finish[row] != self._finish[row]:
            self._finish[row] = now

    def _failed(self, row: int, kind: str, detail: str) -> None:
        now = monotonic()
        if now > self._window.end_s:
            return
        self._failure[row] = self.failures.code(kind, detail)
        self._finish[row] = now
        self._counters[_FAILED] += 1
        self._ended(row, now, failed=True)

    def _ended(self, row: int, now: float, failed: bool) -> None:
        self._router.ended(self._replica[row])
        if self._feed is not None and not self._done.done():
            self._feed.ended(row, now, failed)
            if (at := self._feed.when()) is not None:
                self._pacer.set(at)
        self._stop_if_exhausted()

    def _stop_if_exhausted(self) -> None:
        if self._feed is not None and self._feed.exhausted and not self._busy and not self._connecting:
            self._stop()

    def _stop(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _cut_off(self) -> None:
        """Requests on their way are cancelled, and stay in the journal as they are: sent, not finished."""
        for task in self._connecting:
            task.cancel()
        for connection in list(self._busy):
            connection.abort()
        self._busy.clear()


def _connection_failure(error: OSError) -> tuple[str, str]:
    """Kind and detail; running out of ports or files is the client's own limit, and called so."""
    if error.errno == errno.EADDRNOTAVAIL:
        return "client out of local ports", "raise net.ipv4.ip_local_port_range, or use several addresses"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "client out of open files", "raise the limit: ulimit -n 65536"
    if isinstance(error, ssl.SSLError):
        return "TLS refused", str(error)
    if isinstance(error, ConnectionRefusedError):
        return "connection refused", str(error)
    return "cannot connect", str(error)
