"""The running list: a seat for every running request, linked in admission order, and the calendar of completions.

Between two events nothing about a decoding request changes but counters, so no step visits it: its completion is a
known step number (a calendar ring indexed by step), its need for a KV block recurs every `block_size` steps (counters
of seats by phase), its context grows by one a step (a running sum). Only admission, prefill, completion and preemption
touch it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loratwin.kernel.jit import jit
from loratwin.kernel.types import I4, I8

LEAVING = -2
"""Seats.last_step of a request that made its last token while the next step was already scheduled."""


class Seats(NamedTuple):
    """Arrays of shape (max_num_seqs + 1,) by seat; the last seat is the sentinel of the running list."""

    request: I4
    next: I4  # running list in admission order; also the free list
    prev: I4
    day_next: I4  # others that complete in the same step, in admission order
    day_prev: I4
    known: I4  # prompt + tokens generated before this admission
    computed: I4  # while prefilling: tokens computed
    offset: I8  # while decoding: tokens computed before step s = offset + s
    last_step: I8  # while decoding: step of its last token; -1 while prefilling; LEAVING
    day_head: I4  # (ring,) first seat that completes in a step, by step & (ring - 1); -1: none
    day_tail: I4
    phase: I4  # (block_size,) decoding seats that need a block when (phase + step) % block_size == 0
    free_seat: I4  # (1,)


def new_seats(max_num_seqs: int, block_size: int, max_output_tokens: int) -> Seats:
    """All seats free."""
    size = max_num_seqs + 1
    ring = 1 << int(max_output_tokens + 1).bit_length()
    request, after, before, day_next, day_prev, known, computed = np.full((7, size), -1, np.int32)
    after[:max_num_seqs] = np.arange(1, size)
    after[max_num_seqs] = before[max_num_seqs] = max_num_seqs
    return Seats(
        request=request,
        next=after,
        prev=before,
        day_next=day_next,
        day_prev=day_prev,
        known=known,
        computed=computed,
        offset=np.zeros(size, np.int64),
        last_step=np.full(size, -1, np.int64),
        day_head=np.full(ring, -1, np.int32),
        day_tail=np.full(ring, -1, np.int32),
        phase=np.zeros(block_size, np.int32),
        free_seat=np.zeros(1, np.int32),
    )


@jit
def take_seat(seats: Seats, request: int) -> int:
    """Append a request to the running list."""
    seat = seats.free_seat[0]
    seats.free_seat[0] = seats.next[seat]
    end = seats.request.shape[0] - 1
    last = seats.prev[end]
    seats.next[last], seats.prev[seat] = seat, last
    seats.next[seat], seats.prev[end] = end, seat
    seats.request[seat] = request
    seats.last_step[seat] = -1
    return seat


@jit
def leave_seat(seats: Seats, seat: int) -> None:
    """Take a request out of the running list."""
    seats.next[seats.prev[seat]] = seats.next[seat]
    seats.prev[seats.next[seat]] = seats.prev[seat]
    seats.next[seat] = seats.free_seat[0]
    seats.free_seat[0] = seat


@jit
def enter_calendar(seats: Seats, seat: int, last_step: int) -> None:
    """Note the step of a decoding request's last token, behind those admitted before it."""
    day = last_step & (seats.day_head.shape[0] - 1)
    tail = seats.day_tail[day]
    seats.day_prev[seat], seats.day_next[seat] = tail, -1
    if tail < 0:
        seats.day_head[day] = seat
    else:
        seats.day_next[tail] = seat
    seats.day_tail[day] = seat
    seats.last_step[seat] = last_step


@jit
def leave_calendar(seats: Seats, seat: int) -> None:
    """Strike a request that was preempted before its last step."""
    day = seats.last_step[seat] & (seats.day_head.shape[0] - 1)
    before, after = seats.day_prev[seat], seats.day_next[seat]
    if before < 0:
        seats.day_head[day] = after
    else:
        seats.day_next[before] = after
    if after < 0:
        seats.day_tail[day] = before
    else:
        seats.day_prev[after] = before
