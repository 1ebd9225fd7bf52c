"""What became of each request, as a client sees it: every request is exactly one of these at the end of the window.

finished (`latency.finished`) · refused · failed · never sent · censored: sent, and still on its way when the window
ended. Every function returns an array of shape (num_requests,). Of a simulated run nothing fails and all are sent.
"""

from __future__ import annotations

import numpy as np

from loratwin.metrics.latency import finished
from loratwin.records import Run
from loratwin.records.columns import BoolArray


def sent(run: Run) -> BoolArray:
    """Requests that left the client; of a run without a client: all."""
    if run.requests.sent_s is None:
        return np.ones(len(run.requests), dtype=bool)
    return ~np.isnan(run.requests.sent_s)


def failed(run: Run) -> BoolArray:
    """Requests that ended in an error, sent or not."""
    if run.requests.failure is None:
        return np.zeros(len(run.requests), dtype=bool)
    return run.requests.failure >= 0


def accepted(run: Run) -> BoolArray:
    """Requests that were sent, not refused, and did not fail: those that finished, and those that still might have."""
    table = run.requests
    here: BoolArray = ~table.refused
    if table.failure is not None:
        here &= table.failure < 0
    if table.sent_s is not None:
        here &= ~np.isnan(table.sent_s)
    return here


def censored(run: Run) -> BoolArray:
    """Requests that the end of the window cut off: accepted, not finished."""
    return accepted(run) & ~finished(run)


def never_sent(run: Run) -> BoolArray:
    """Requests that the client did not come to send, for another reason than a failure of their own."""
    return ~sent(run) & ~failed(run) & ~run.requests.refused
