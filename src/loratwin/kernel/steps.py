"""Requests counted at the ends of steps, each in one pass: gaps between tokens, and combinations of adapters.

A time is brought to its step by a table over equal parts of the run, so nothing is sorted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loratwin.kernel.jit import entry, jit
from loratwin.kernel.types import F8, I4

U8 = NDArray[np.uint64]

_CELLS_PER_STEP = 2


@jit
def _fill_cells(cell: I4, cells_per_s: float, end_s: F8) -> None:
    """For the begin of each part of the run the first step that ends at or after it, to rounding."""
    step = 0
    for i in range(cell.shape[0]):
        while step < end_s.shape[0] and end_s[step] * cells_per_s < i:
            step += 1
        cell[i] = step


@jit
def _step_at(cell: I4, cells_per_s: float, end_s: F8, time_s: float) -> int:
    """The first step that ends at or after this time; the number of steps when none does."""
    place = time_s * cells_per_s
    step = cell[max(0, int(place))] if place < cell.shape[0] else end_s.shape[0]
    while step > 0 and end_s[step - 1] >= time_s:
        step -= 1
    while step < end_s.shape[0] and end_s[step] < time_s:
        step += 1
    return step


@entry
def _count_gaps(
    end_s: F8, first_token_s: F8, finish_s: F8, which: NDArray[np.bool_], cells_per_s: float, cell: I4, gaps: I4
) -> None:
    _fill_cells(cell, cells_per_s, end_s)
    for i in range(finish_s.shape[0]):
        if which[i] and not np.isnan(first_token_s[i]):
            begin = _step_at(cell, cells_per_s, end_s, first_token_s[i])
            while begin < end_s.shape[0] and end_s[begin] == first_token_s[i]:
                begin += 1
            end = _step_at(cell, cells_per_s, end_s, finish_s[i])
            while end < end_s.shape[0] and end_s[end] == finish_s[i]:
                end += 1
            gaps[begin] += 1
            gaps[end] -= 1
    for step in range(1, gaps.shape[0]):
        gaps[step] += gaps[step - 1]


class _Sets(NamedTuple):
    """Adapters of which requests run (0) or wait (1), and the combinations that were seen of them."""

    keys: U8  # (2, num_adapters)
    inside: I4  # (2, num_adapters) requests
    begins: I4  # (num_steps + 1,) a request whose first token comes with the step, -1: none; the others are chained
    ends: I4  # (num_steps + 1,) the same of last tokens
    next_begin: I4  # (num_requests,)
    next_end: I4
    combination: U8  # (2,) of the present: exclusive-or of the keys, of each set
    num_names: I4  # (2,) adapters in each set
    begun: NDArray[np.bool_]  # (2,) whether any was ever in the first set, in either
    table: U8  # (2, a power of two) hash tables of those seen: of the first set, of both; a combination + 1, 0: free
    new: I4  # (2, num_steps) result


@jit
def _enter(s: _Sets, which: int, adapter: int) -> None:
    s.begun[which] = True
    if s.inside[which, adapter] == 0:
        s.combination[which] ^= s.keys[which, adapter]
        s.num_names[which] += 1
    s.inside[which, adapter] += 1


@jit
def _leave(s: _Sets, which: int, adapter: int) -> None:
    s.inside[which, adapter] -= 1
    if s.inside[which, adapter] == 0:
        s.combination[which] ^= s.keys[which, adapter]
        s.num_names[which] -= 1


@jit
def _look(s: _Sets, which: int, combination: Any, num_names: int, step: int) -> None:
    """Note the combination of the first set (0) or of both (1), unless it was seen."""
    table, mask = s.table[which], np.uint64(s.table.shape[1] - 1)
    place = combination & mask
    while table[place] != 0 and table[place] != combination + np.uint64(1):
        place = (place + np.uint64(1)) & mask
    s.new[which, step] = num_names if table[place] == 0 else -1
    table[place] = combination + np.uint64(1)


@jit
def _chain(s: _Sets, end_s: F8, first_token_s: F8, finish_s: F8, adapter: I4, cells_per_s: float, cell: I4) -> None:
    """Hang every first and last token on its step; a NaN stands for one that never came."""
    for i in range(adapter.shape[0]):
        if adapter[i] >= 0 and not np.isnan(first_token_s[i]):
            step = _step_at(cell, cells_per_s, end_s, first_token_s[i])
            s.next_begin[i] = s.begins[step]
            s.begins[step] = i
        if adapter[i] >= 0 and not np.isnan(finish_s[i]):
            step = _step_at(cell, cells_per_s, end_s, finish_s[i])
            s.next_end[i] = s.ends[step]
            s.ends[step] = i


@jit
def _tokens_of(s: _Sets, adapter: I4, step: int) -> None:
    """What the first and last tokens of a step change."""
    i = s.begins[step]
    while i >= 0:
        _enter(s, 0, adapter[i])
        _leave(s, 1, adapter[i])
        i = s.next_begin[i]
    i = s.ends[step]
    while i >= 0:
        _leave(s, 0, adapter[i])
        i = s.next_end[i]


@entry
def _count_combinations(
    s: _Sets, end_s: F8, arrival_s: F8, first_token_s: F8, finish_s: F8, adapter: I4, cells_per_s: float, cell: I4
) -> None:
    _fill_cells(cell, cells_per_s, end_s)
    _chain(s, end_s, first_token_s, finish_s, adapter, cells_per_s, cell)
    arrived = 0
    for step in range(end_s.shape[0]):
        while arrived < adapter.shape[0] and arrival_s[arrived] <= end_s[step]:
            if adapter[arrived] >= 0:
                _enter(s, 1, adapter[arrived])
            arrived += 1
        _tokens_of(s, adapter, step)
        if s.begun[0]:
            _look(s, 0, s.combination[0], s.num_names[0], step)
        if s.begun[0] or s.begun[1]:
            _look(s, 1, s.combination[0] ^ s.combination[1], s.num_names[0] + s.num_names[1], step)


def gaps_per_step(end_s: F8, first_token_s: F8, finish_s: F8, which: NDArray[np.bool_]) -> I4:
    """How many gaps end with each step: requests with first token < end of step <= finish.

    Parameters
    ----------
    end_s
        Ends of the steps, ascending. Shape (num_steps,).
    first_token_s, finish_s, which
        Of each request, and whether it counts. Shape (num_requests,).

    Returns
    -------
    array of shape (num_steps,)
    """
    gaps = np.zeros(len(end_s) + 1, np.int32)
    requests = (_read_only(column) for column in (end_s, first_token_s, finish_s, which))
    _count_gaps(*requests, *_cells(end_s), gaps)  # type: ignore[call-arg, arg-type]
    return gaps[:-1]


def adapter_combinations(
    end_s: F8, arrival_s: F8, first_token_s: F8, finish_s: F8, adapter: I4, keys: U8
) -> NDArray[np.int32]:
    """Where a combination of adapters is seen for the first time at the end of a step, and how many names it holds.

    An adapter runs from the first token of any of its requests to the finish of all, and waits from an arrival to the
    first token of all. Combinations are told apart by the exclusive-or of the keys of what is in them (Zobrist
    hashing); they count from the first adapter on that ever was in.

    Parameters
    ----------
    end_s
        Ends of the steps, ascending. Shape (num_steps,).
    arrival_s, first_token_s, finish_s, adapter
        Of the requests, in order of arrival; NaN: it never came. Shape (num_requests,).
    keys
        Random; shape (2, num_adapters), for running and waiting.

    Returns
    -------
    array of shape (2, num_steps)
        Of those that run, and of those that run or wait: names in the combination, one that does both counted twice;
        -1: it is not new.
    """
    num_steps, num_requests = len(end_s), len(adapter)
    sets = _Sets(
        keys=np.ascontiguousarray(keys, np.uint64),
        inside=np.zeros(keys.shape, np.int32),
        begins=np.full(num_steps + 1, -1, np.int32),
        ends=np.full(num_steps + 1, -1, np.int32),
        next_begin=np.empty(num_requests, np.int32),
        next_end=np.empty(num_requests, np.int32),
        combination=np.zeros(2, np.uint64),
        num_names=np.zeros(2, np.int32),
        begun=np.zeros(2, np.bool_),
        table=np.zeros((2, 2 << num_steps.bit_length()), np.uint64),
        new=np.full((2, num_steps), -1, np.int32),
    )
    requests = (_read_only(column) for column in (end_s, arrival_s, first_token_s, finish_s, adapter))
    _count_combinations(sets, *requests, *_cells(end_s))  # type: ignore[call-arg, arg-type]
    return sets.new


def _cells(end_s: F8) -> tuple[float, I4]:
    """Parts of the run in a second, and room for the table of them."""
    number = _CELLS_PER_STEP * len(end_s)
    last_s = float(end_s[-1]) if len(end_s) else 0.0
    return (number / last_s if last_s > 0 else 0.0), np.empty(number + 1, np.int32)


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    """In the one type that is compiled for."""
    view = np.ascontiguousarray(values).view()
    view.flags.writeable = False
    return view
