"""Run the kernel to the end and collect what it saw."""

from __future__ import annotations

from typing import Any, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import DTypeLike, NDArray

from loratwin.errors import InputError
from loratwin.kernel.engine import advance
from loratwin.kernel.state import NUM_EVENTS, PREFIX_HITS, PREFIX_QUERIES, State, new_state
from loratwin.kernel.types import (
    F8,
    I4,
    I8,
    AdapterCosts,
    ClientLoop,
    EngineLimits,
    EngineRules,
    Requests,
    StepCost,
    StepTrace,
)

AnyArray = NDArray[Any]

_DTYPES = {F8: np.float64, I8: np.int64, I4: np.int32}
STEP_TYPES = [_DTYPES[kind] for kind in get_type_hints(StepTrace).values()]
REQUEST_TYPES = [_DTYPES[kind] for kind in get_type_hints(Requests).values()]

_PIECE = 524_288
"""Steps in one piece of the series; memory that is not written to is never taken from the machine."""


class EngineTrace(NamedTuple):
    """What happened to each request (arrays of shape (num_requests,), NaN: never) and in each step."""

    arrival_s: F8  # as given, or as a closed loop made them; infinite: it had no turn
    admitted_s: F8
    first_token_s: F8
    finish_s: F8
    num_preemptions: I4
    refused: np.ndarray
    steps: StepTrace
    cached_tokens: I4  # found in the prefix cache at the first admission; empty where there is none
    prefix_queries: int  # tokens looked up in the prefix cache, as the server counts them
    prefix_hits: int  # tokens found
    events: I8  # (num_events, 3) kind, request or adapter, step; empty unless asked for


def check_limits(requests: Requests, limits: EngineLimits) -> None:
    """Refuse what would make the engine wait for ever.

    Raises
    ------
    InputError
        A request that the KV cache cannot hold alone, or a token budget below the number of sequences.
    """
    if limits.max_num_batched_tokens < limits.max_num_seqs:
        raise InputError(
            f"max_num_batched_tokens ({limits.max_num_batched_tokens}) "
            f"must be at least max_num_seqs ({limits.max_num_seqs})"
        )
    capacity = limits.num_blocks * limits.block_size
    if len(requests.arrival_s) and _at_most(requests) - 1 > capacity:
        longest = int(np.add(requests.prompt_tokens, requests.output_tokens, dtype=np.int64).max())
        if longest - 1 > capacity:
            raise InputError(f"a request of {longest} tokens does not fit the KV cache of {capacity} tokens")


def _at_most(requests: Requests) -> int:
    """A bound on the tokens of the longest request, without a temporary array."""
    return int(requests.prompt_tokens.max()) + int(requests.output_tokens.max())


def run_engine(
    requests: Requests,
    limits: EngineLimits,
    costs: AdapterCosts,
    num_adapters: int,
    step_cost: StepCost,
    record_events: bool = False,
) -> EngineTrace:
    """Simulate the engine until `limits.window_s` or until nothing is left to do.

    The same arguments give the same bytes in every process.

    Raises
    ------
    InputError
        See `check_limits`.
    """
    check_limits(requests, limits)
    requests, limits, costs, step_cost = one_type(requests, limits, costs, step_cost)
    n = len(requests.arrival_s)
    capacity = 64 * n + 64 if record_events else 0
    caches = limits.rules.prefix_caching > 0
    with_pool = caches and len(requests.text) > 0
    while True:
        state = new_state(requests, limits, num_adapters, capacity, with_pool)
        steps = _run(state, requests, limits, costs, step_cost)
        seen = int(state.tally[NUM_EVENTS])
        if caches and not with_pool and state.num_preemptions.any():
            with_pool = True  # nothing is shared, but who was preempted may find its own blocks again
        elif not record_events or seen <= capacity:
            break
        else:
            capacity = 2 * seen
    return EngineTrace(
        arrival_s=state.arrival_s,
        admitted_s=state.admitted_s,
        first_token_s=state.first_token_s,
        finish_s=state.finish_s,
        num_preemptions=state.num_preemptions,
        refused=state.refused,
        steps=steps,
        cached_tokens=state.pool.cached_tokens if with_pool else np.zeros_like(state.num_preemptions[: caches * n]),
        prefix_queries=int(state.tally[PREFIX_QUERIES]),
        prefix_hits=int(state.tally[PREFIX_HITS]),
        events=state.events[:seen] if record_events else state.events,
    )


def one_type(
    requests: Requests, limits: EngineLimits, costs: AdapterCosts, step_cost: StepCost
) -> tuple[Requests, EngineLimits, AdapterCosts, StepCost]:
    """The same arguments in the only types that the kernel is ever compiled for: read-only arrays, int, float."""
    return (
        Requests._make(map(fixed, requests, REQUEST_TYPES)),
        _limits(limits),
        AdapterCosts(*(fixed(seconds, np.float64) for seconds in costs)),
        StepCost(*map(float, step_cost)),
    )


def _limits(limits: EngineLimits) -> EngineLimits:
    *counts, window_s, rules, (in_flight, pause_s) = limits
    loop = ClientLoop(int(in_flight), float(pause_s))
    return EngineLimits._make([*map(int, counts), float(window_s), EngineRules._make(map(int, rules)), loop])


def fixed(values: Any, dtype: DTypeLike) -> AnyArray:
    """The values contiguous, of one type, read-only."""
    view = np.ascontiguousarray(values, dtype).view()
    view.flags.writeable = False
    return view


def _run(state: State, requests: Requests, limits: EngineLimits, costs: AdapterCosts, step_cost: StepCost) -> StepTrace:
    """Advance in pieces of the series until a piece is not full."""
    pieces = []
    while True:
        log = StepTrace(*(np.empty(_PIECE, dtype) for dtype in STEP_TYPES))
        steps = advance(state, requests, limits, costs, step_cost, log)
        pieces.append(StepTrace._make(column[:steps] for column in log))
        if steps < _PIECE:
            return _joined(pieces)


def _joined(pieces: list[StepTrace]) -> StepTrace:
    """The pieces one behind the other; a single one (nearly always) is not copied."""
    return pieces[0] if len(pieces) == 1 else StepTrace(*map(np.concatenate, zip(*pieces, strict=True)))
