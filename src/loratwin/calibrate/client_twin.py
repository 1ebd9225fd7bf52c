"""The operating point of a run whose engine steps nobody logged: the twin, as fast as the client saw the server.

As for the measured tables (`matching.py`), the twin serves the run's own requests with all step times scaled by one
factor, until its time between tokens is the client's. What it then did in its steps is what the server did, near enough.

An open loop is served as it was sent. A closed loop is served as one: the next request arrives when another finishes,
which the twin's arrivals must be found for. Arrivals are replaced by the finish times that they lead to until nothing
changes (waveform relaxation: Lelarasmee, Ruehli and Sangiovanni-Vincentelli 1982). This ends: whatever was right up to
some time is right, in the next round, up to the finish after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loratwin.metrics import in_flight, itl_mean_s
from loratwin.metrics.latency import finished
from loratwin.perf import Profile
from loratwin.records import Run
from loratwin.simulate import simulate
from loratwin.workload import Adapters, Workload

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

HELD = 0.9
"""Mean of the requests in flight / their most, from which on a run counts as a closed loop."""

CLOSE = 0.003
"""Of the time between tokens, relative: near enough."""

ACCEPTED = 0.05
"""What a match may be off to be used; the row is then put right by the measured figure, and only its features are off."""

_MAX_TRIES = 8
_STEP = 0.5  # most that the logarithm of the factor changes at once
_ROUNDS = 60
_SETTLED_S = 1e-4
_MORE = 2  # times the requests that a closed loop had, for a twin that is faster


@dataclass(frozen=True)
class ClientMatch:
    """A measured run and the twin at its operating point.

    Parameters
    ----------
    name
        Of the run.
    served
        What the twin was given; row i is row `rows[i]` of the measured requests, as far as there are so many.
    twin
        What it did; request i is that of `served`.
    factor
        Step times of the profile x this.
    residual
        Log of simulated / measured time between tokens that is left.
    """

    name: str
    measured: Run
    served: Workload
    rows: I8
    twin: Run
    factor: float
    residual: float

    @property
    def usable(self) -> bool:
        """False when no factor brought the twin near the measurement."""
        return abs(self.residual) < ACCEPTED

    @property
    def held(self) -> bool:
        """Whether it was a closed loop."""
        return closed_loop(self.measured) > 0

    @property
    def both(self) -> I8:
        """Requests that finished in the twin and were measured to: indices into the twin's."""
        num = len(self.rows)
        there = finished(self.twin)[:num] & finished(self.measured)[self.rows]
        return np.flatnonzero(there)


def closed_loop(run: Run) -> int:
    """Requests that were always in flight; 0 for an open loop."""
    flight = in_flight(run)
    return flight.peak if flight.peak and flight.mean >= HELD * flight.peak else 0


def match(name: str, run: Run, profile: Profile, kv_tokens: int | None = None) -> ClientMatch:
    """Find the operating point of one run.

    Parameters
    ----------
    kv_tokens
        Of the server, where the run does not tell; None: what the profile says.

    Raises
    ------
    CapacityError, InputError
        The profile's server would not start with this configuration, or an adapter or prompt does not fit it.
    """
    rows = sent_rows(run)
    served, target = workload_of(run, rows), itl_mean_s(run)
    tokens = run.kv_tokens or kv_tokens
    position, tries = 0.0, list[tuple[float, float]]()
    best: ClientMatch | None = None
    while len(tries) < _MAX_TRIES:
        faster = profile.model_copy(update={"step_time": profile.step_time.scaled(math.exp(position))})
        twin = _serve(run, served, faster, tokens)
        error = _error(twin, target)
        tries.append((position, error))
        if best is None or abs(error) < abs(best.residual):
            best = ClientMatch(name, run, served, rows, twin, math.exp(position), error)
        if abs(error) < CLOSE:
            break
        position -= min(_STEP, max(-_STEP, error / _slope(tries)))
    assert best is not None
    return best


def _error(twin: Run, target: float) -> float:
    """Log of simulated / measured; a twin so slow that nothing finished is taken to be far too slow."""
    found = itl_mean_s(twin)
    return math.log(found / target) if found > 0 else 2 * _STEP


def _slope(tries: list[tuple[float, float]]) -> float:
    """Change of the log time between tokens with the log factor: secant, within what is plausible."""
    if len(tries) < 2 or tries[-1][0] == tries[-2][0]:
        return 1.1
    (x0, y0), (x1, y1) = tries[-2:]
    return min(8.0, max(0.5, (y1 - y0) / (x1 - x0)))


def sent_rows(run: Run) -> I8:
    """Rows of the requests that the server was given, in order of their sending.

    One that failed is left out: nobody knows how much of it the server computed.
    """
    table = run.requests
    start_s = _sent_s(run)
    given = (start_s < run.window_s) & ~table.refused  # False where never sent
    if table.failure is not None:
        given &= table.failure < 0
    rows = np.flatnonzero(given)
    return rows[np.lexsort((table.adapter[rows], start_s[rows]))]


def _sent_s(run: Run) -> F8:
    table = run.requests
    return table.arrival_s if table.sent_s is None else table.sent_s


def workload_of(run: Run, rows: I8) -> Workload:
    """These requests as they were sent, as long as they were; an unfinished one as long as was asked for."""
    table = run.requests
    rank = np.where(run.adapters.rank < 1, run.config.max_lora_rank, run.adapters.rank).astype(np.int32)
    num = len(run.adapters)
    return Workload(
        arrival_s=np.maximum(_sent_s(run)[rows], 0.0),
        adapter=table.adapter[rows],
        prompt_tokens=np.maximum(table.prompt_tokens[rows], 1).astype(np.int32),
        output_tokens=np.maximum(table.output_tokens[rows], 1).astype(np.int32),
        adapters=Adapters(run.adapters.name, rank, np.full(num, np.nan), np.zeros(num, dtype=np.int32)),
        window_s=run.window_s,
        seed=0,
    )


def _serve(run: Run, served: Workload, profile: Profile, kv_tokens: int | None) -> Run:
    number = closed_loop(run)
    if not number:
        return simulate(served, profile, run.config, kv_tokens)
    return serve_closed(served, number, profile, run, kv_tokens)


def serve_closed(served: Workload, number: int, profile: Profile, run: Run, kv_tokens: int | None = None) -> Run:
    """The requests in their order, `number` of them always in flight; when they are used up, the same again.

    A request follows the finish of another by the client's own delay and the front end's overhead.
    """
    delay_s = max(_SETTLED_S, client_delay_s(run) + profile.frontend.overhead_s)
    many = _repeated(served, _MORE)
    first = np.zeros(min(number, many.num_requests))
    arrival = np.concatenate([first, many.arrival_s[len(first) :]])
    for _ in range(_ROUNDS):
        twin = simulate(_arriving(many, arrival), profile, run.config, kv_tokens)
        ends = np.sort(twin.requests.finish_s[twin.requests.finish_s < many.window_s]) + delay_s
        ends = ends[ends < many.window_s]
        after = np.concatenate([first, ends])[: many.num_requests]
        same = min(len(after), len(arrival))
        moved = float(np.abs(after[:same] - arrival[:same]).max(initial=0.0))
        settled = len(after) == len(arrival) and moved < _SETTLED_S
        arrival = after
        if settled:
            break
    return twin


def client_delay_s(run: Run) -> float:
    """Median time from a finish to the next sending: what a closed loop's client takes."""
    start_s, end_s = np.sort(_sent_s(run)[sent_rows(run)]), np.sort(run.requests.finish_s[finished(run)])
    next_ = np.searchsorted(start_s, end_s, side="right")
    there = next_ < len(start_s)
    return float(np.median(start_s[next_[there]] - end_s[there])) if there.any() else 0.0


def _repeated(served: Workload, times: int) -> Workload:
    arrival = np.concatenate([served.arrival_s + i * served.window_s for i in range(times)])
    return replace(
        served,
        arrival_s=arrival,
        adapter=np.tile(served.adapter, times),
        prompt_tokens=np.tile(served.prompt_tokens, times),
        output_tokens=np.tile(served.output_tokens, times),
    )


def _arriving(served: Workload, arrival_s: F8) -> Workload:
    """The first of the requests, at these times, as far as they lie in the window."""
    num = int(np.count_nonzero(arrival_s < served.window_s))
    return replace(
        served,
        arrival_s=arrival_s[:num],
        adapter=served.adapter[:num],
        prompt_tokens=served.prompt_tokens[:num],
        output_tokens=served.output_tokens[:num],
    )
