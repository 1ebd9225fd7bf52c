"""The tokens that a step made: first tokens, and requests that are done."""

from __future__ import annotations

from loratwin.kernel.batch import leave_batch, release, start_decoding, stop_decoding
from loratwin.kernel.coming import enter_coming
from loratwin.kernel.jit import jit
from loratwin.kernel.seats import LEAVING
from loratwin.kernel.state import (
    FINISH,
    FIRST_TOKEN,
    NOW,
    NUM_DUE,
    NUM_FRESH,
    NUM_LEAVING,
    STEP,
    State,
    note,
)
from loratwin.kernel.types import EngineLimits, Requests


@jit
def follow(s: State, r: Requests, lim: EngineLimits, request: int, end_s: float) -> None:
    """A request has ended: who follows it will arrive.

    In a closed loop the next request arrives when one ends: later than all before it, as all pauses are alike.
    """
    if s.follower.shape[0] > 0 and s.follower[request] >= 0:
        follower = s.follower[request]
        s.arrival_s[follower] = end_s + r.think_s[follower]
        enter_coming(s, follower)
    if lim.loop.in_flight > 0 and s.tally[NUM_DUE] < s.arrival_s.shape[0]:
        s.arrival_s[s.tally[NUM_DUE]] = s.clock[NOW] + lim.loop.pause_s
        s.tally[NUM_DUE] += 1


@jit
def finish(s: State, r: Requests, seat: int, lim: EngineLimits) -> None:
    request = s.seats.request[seat]
    s.finish_s[request] = s.clock[NOW]
    if lim.rules.async_scheduling:
        s.leaving[s.tally[NUM_LEAVING]] = seat
        s.tally[NUM_LEAVING] += 1
        s.seats.last_step[seat] = LEAVING
        if not lim.rules.lora_set_of_running:
            leave_batch(s, r, request)
    else:
        release(s, r, seat, lim)
    note(s, FINISH, request)
    follow(s, r, lim, request, s.clock[NOW])


@jit
def emit_decoded(s: State, r: Requests, lim: EngineLimits) -> None:
    """Decoding requests whose last token this step made, in admission order."""
    seats = s.seats
    day = s.tally[STEP] & (seats.day_head.shape[0] - 1)
    seat = seats.day_head[day]
    seats.day_head[day] = seats.day_tail[day] = -1
    while seat >= 0:
        after = seats.day_next[seat]
        stop_decoding(s, r, seat, lim.block_size)
        finish(s, r, seat, lim)
        seat = after


@jit
def emit_fresh(s: State, r: Requests, lim: EngineLimits) -> None:
    """Requests whose prompt is done emit a token: their first, unless they had been preempted."""
    for i in range(s.tally[NUM_FRESH]):
        seat = s.fresh[i]
        request = s.seats.request[seat]
        if s.generated[request] == 0:
            s.first_token_s[request] = s.clock[NOW]
            note(s, FIRST_TOKEN, request)
        remaining = r.output_tokens[request] - s.generated[request] - 1
        if remaining == 0:
            finish(s, r, seat, lim)
        else:
            start_decoding(s, r, seat, remaining, lim.block_size)
