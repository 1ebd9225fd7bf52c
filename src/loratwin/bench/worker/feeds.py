"""Which request is sent next, and when: at times drawn before the start, or when another ends."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from heapq import heapify, heappop, heappush

from loratwin.bench.shared.journal import RequestJournal

PAUSE_S = 0.1
"""After a failure, before a closed loop sends again."""


class OpenLoop:
    """Requests at absolute times that no answer can delay.

    Parameters
    ----------
    due_s
        Ascending, on the monotonic clock; row i of the journal is due at due_s[i].
    """

    def __init__(self, due_s: array[float]) -> None:
        self._due_s, self._next = due_s, 0

    def start(self) -> float | None:
        """See `load.Feed`."""
        return self._due_s[0] if self._due_s else None

    def next_due(self, now: float) -> int:
        """See `load.Feed`."""
        row = self._next
        if row >= len(self._due_s) or self._due_s[row] > now:
            return -1
        self._next = row + 1
        return row

    def when(self) -> float | None:
        """See `load.Feed`."""
        return self._due_s[self._next] if self._next < len(self._due_s) else None

    def ended(self, row: int, now: float, failed: bool) -> None:
        """An open loop does not care."""

    @property
    def exhausted(self) -> bool:
        """Its window may go on after the last request."""
        return False


class Conversations:
    """Requests at absolute times, and others that are due so long after the end of the one before them.

    Parameters
    ----------
    due_s
        On the monotonic clock, by row; NaN: it waits for another.
    follower
        The row that waits for a row, and the seconds from that one's end to it.
    journal
        Takes when those were due. Whose predecessor fails is never due: the conversation is over.
    """

    def __init__(
        self, due_s: Sequence[float], follower: Mapping[int, tuple[int, float]], journal: RequestJournal
    ) -> None:
        self._due = [(due, row) for row, due in enumerate(due_s) if due == due]
        heapify(self._due)
        self._follower, self._journal = follower, journal

    def start(self) -> float | None:
        """See `load.Feed`."""
        return self.when()

    def next_due(self, now: float) -> int:
        """See `load.Feed`."""
        return heappop(self._due)[1] if self._due and self._due[0][0] <= now else -1

    def when(self) -> float | None:
        """See `load.Feed`."""
        return self._due[0][0] if self._due else None

    def ended(self, row: int, now: float, failed: bool) -> None:
        """The next turn is due after a while."""
        if failed or row not in self._follower:
            return
        follower, think_s = self._follower[row]
        self._journal.columns["scheduled_s"][follower] = now + think_s
        heappush(self._due, (now + think_s, follower))

    @property
    def exhausted(self) -> bool:
        """Its window may go on after the last request."""
        return False


class ClosedLoop:
    """A number of requests always in flight: the next is due when one ends.

    Parameters
    ----------
    start_s
        When the first are due.
    num_rows
        Rows of the journal that hold a request; when they are used up, `more` is called for others.
    """

    def __init__(
        self, in_flight: int, start_s: float, journal: RequestJournal, more: Callable[[], None] | None = None
    ) -> None:
        self._start_s, self._journal, self._more = start_s, journal, more
        self._due = in_flight
        self._due_since = start_s
        self._next = 0
        self._rows = journal.count("rows")

    def start(self) -> float | None:
        """See `load.Feed`."""
        return self._start_s

    def next_due(self, now: float) -> int:
        """See `load.Feed`."""
        if not self._due or self._due_since > now:
            return -1
        if self._next >= self._rows and not self._grow():
            return -1
        self._due -= 1
        row, self._next = self._next, self._next + 1
        self._journal.columns["scheduled_s"][row] = max(self._due_since, self._start_s)
        return row

    def when(self) -> float | None:
        """Now, if a request may be sent."""
        return self._due_since if self._due and (self._next < self._rows or self._more) else None

    def ended(self, row: int, now: float, failed: bool) -> None:
        """Another may follow; after a failure a little later, lest a dead server be asked without a pause."""
        self._due += 1
        self._due_since = now + PAUSE_S * failed

    @property
    def exhausted(self) -> bool:
        """All rows were sent, and there are no more."""
        return self._next >= self._rows and self._more is None

    def _grow(self) -> bool:
        if self._more is None:
            return False
        self._more()
        self._rows = self._journal.count("rows")
        return self._next < self._rows
