"""Which server a request is sent to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from loratwin.bench.shared.routing import Routing


class ServerChooser(Protocol):
    """Chooses among the servers that a load is sent to."""

    def choose(self, row: int, adapter: int) -> int:
        """The server of a request that is about to be sent; `adapter` -1 is the LLM without one."""

    def ended(self, server: int) -> None:
        """A request that was sent there is answered, or has failed."""


class InTurn:
    """Servers that are alike, one after the other."""

    def __init__(self, num_servers: int) -> None:
        self._num_servers = num_servers

    def choose(self, row: int, adapter: int) -> int:
        """See `ServerChooser`."""
        return row % self._num_servers

    def ended(self, server: int) -> None:
        """It does not matter."""


class Beforehand:
    """The server of each row was chosen before the start."""

    def __init__(self, servers: Sequence[int]) -> None:
        self._servers = list(servers)

    def choose(self, row: int, adapter: int) -> int:
        """See `ServerChooser`."""
        return self._servers[row]

    def ended(self, server: int) -> None:
        """It does not matter."""


class LeastInFlight:
    """Of the servers that hold the adapter the one with fewest requests unanswered, as in `loratwin.kernel.routing`."""

    def __init__(self, routing: Routing, num_servers: int) -> None:
        rows = len(routing.first) - 1
        self._rows = [routing.servers_of(row if row < rows - 1 else -1).tolist() for row in range(rows)]
        self._numbers = routing.numbers.tolist()
        self._in_flight = [0] * num_servers

    def choose(self, row: int, adapter: int) -> int:
        """See `ServerChooser`."""
        in_flight, servers = self._in_flight, self._rows[adapter]  # -1 is the last
        least = min(in_flight[server] for server in servers)
        equal = [server for server in servers if in_flight[server] == least]
        chosen: int = equal[min(int(self._numbers[row] * len(equal)), len(equal) - 1)]
        in_flight[chosen] += 1
        return chosen

    def ended(self, server: int) -> None:
        """One less there."""
        self._in_flight[server] -= 1


def router_of(routing: Routing | None, num_servers: int) -> ServerChooser:
    """What a benchmark was told; None: in turn."""
    if routing is None:
        return InTurn(num_servers)
    return LeastInFlight(routing, num_servers) if routing.chosen is None else Beforehand(routing.chosen.tolist())
