"""Which request is sent next, and when: at times drawn before the start (open loop), or when another ends (closed)."""

from __future__ import annotations

from array import array
from collections.abc import Callable

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

    def ended(self, now: float, failed: bool) -> None:
        """An open loop does not care."""

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

    def ended(self, now: float, failed: bool) -> None:
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
