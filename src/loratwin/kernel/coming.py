"""Requests that follow others, between the end of those and their own arrival: a heap, the next one first."""

from __future__ import annotations

from loratwin.kernel.jit import jit
from loratwin.kernel.state import NUM_COMING, State


@jit
def comes_before(s: State, one: int, other: int) -> bool:
    """Whether one request arrives before another; at the same time the one of the smaller number does."""
    if s.arrival_s[one] == s.arrival_s[other]:
        return one < other
    return s.arrival_s[one] < s.arrival_s[other]


@jit
def enter_coming(s: State, request: int) -> None:
    """A request's arrival is known now."""
    at = s.tally[NUM_COMING]
    s.tally[NUM_COMING] += 1
    while at > 0 and comes_before(s, request, s.coming[(at - 1) // 2]):
        s.coming[at] = s.coming[(at - 1) // 2]
        at = (at - 1) // 2
    s.coming[at] = request


@jit
def leave_coming(s: State) -> None:
    """The first one arrives."""
    s.tally[NUM_COMING] -= 1
    num = s.tally[NUM_COMING]
    request = s.coming[num]
    at = 0
    while 2 * at + 1 < num:
        child = 2 * at + 1
        if child + 1 < num and comes_before(s, s.coming[child + 1], s.coming[child]):
            child += 1
        if not comes_before(s, s.coming[child], request):
            break
        s.coming[at] = s.coming[child]
        at = child
    s.coming[at] = request
