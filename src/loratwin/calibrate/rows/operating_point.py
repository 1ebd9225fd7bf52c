"""The operating point of a run whose engine steps nobody logged: the twin, as fast as the client saw the server.

As for the measured tables (`published/operating_point.py`), the twin serves the run's own requests with all step times
scaled by one factor, until its time between tokens is the client's. What it then did in its steps is near enough what
the server did.

An open loop is served as it was sent. A closed loop is served as one: the next request arrives when another finishes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.speed_factor import Search, find_factor
from loratwin.errors import CapacityError, InputError
from loratwin.metrics import in_flight, itl_mean_s
from loratwin.metrics.latency import finished
from loratwin.perf import Profile
from loratwin.records import EngineConfig, Run
from loratwin.simulate import simulate
from loratwin.workload import ArrivalPattern, Workload, sent_s, served_rows, served_workload

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

HELD = 0.9
"""A run counts as a closed loop where requests in flight are, on average, not further than the rest from one number."""

ACCEPTED = 0.05
"""What a match may be off to be used: the row has the measured figure, and only its features are off a little."""

_LOOKS = 200  # at the requests in flight
_SEARCH = Search(close=0.003, most_tries=8, most_step=0.5)  # of the time between tokens
_FIRST_SLOPE = 1.1


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
        num = min(len(self.rows), len(self.twin.requests))
        there = finished(self.twin)[:num] & finished(self.measured)[self.rows[:num]]
        return np.flatnonzero(there)


def operating_points(runs: Mapping[str, Run], profile: Profile) -> tuple[list[ClientMatch], dict[str, str]]:
    """The match of each run, by name; and by name, why a run has none."""
    matches, unusable = list[ClientMatch](), {}
    for name, run in runs.items():
        outcome = _match_or_reason(name, run, profile)
        if isinstance(outcome, str):
            unusable[name] = outcome
        else:
            matches.append(outcome)
    return matches, unusable


def _match_or_reason(name: str, run: Run, profile: Profile) -> ClientMatch | str:
    if not itl_mean_s(run) > 0:
        return "no finished request tells a time between tokens"
    try:
        point = match(name, run, profile)
    except (CapacityError, InputError) as error:
        return f"the twin cannot serve it: {error}"
    if not point.usable or not len(point.both):
        off = abs(np.expm1(point.residual))
        most = 100 * ACCEPTED
        return f"no factor of all step times brings the twin nearer to it than {100 * off:.0f} % ({most:.0f} % may be)"
    return point


def closed_loop(run: Run) -> int:
    """Requests that were always in flight; 0 for an open loop."""
    flight = in_flight(run)
    number = round(flight.mean)
    edges = np.linspace(0.0, run.window_s, _LOOKS + 1)
    off = float(np.abs(flight.means(edges) - number).mean())
    return number if off <= (1 - HELD) * number else 0


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
    rows, served, target = served_rows(run), served_workload(run), itl_mean_s(run)
    tokens = run.kv_tokens or kv_tokens

    def serve(factor: float) -> tuple[Run, float]:
        twin = _serve(run, served, profile.model_copy(update={"step_time": profile.step_time.scaled(factor)}), tokens)
        return twin, _residual(twin, target)

    best = find_factor(serve, _SEARCH, _FIRST_SLOPE)
    return ClientMatch(name, run, served, rows, best.twin, best.factor, best.residual)


def _residual(twin: Run, target: float) -> float:
    """Log of simulated / measured; a twin so slow that nothing finished is taken to be far too slow."""
    simulated = itl_mean_s(twin)
    return math.log(simulated / target) if simulated > 0 else 2 * _SEARCH.most_step


def _serve(run: Run, served: Workload, profile: Profile, kv_tokens: int | None) -> Run:
    number = closed_loop(run)
    if not number:
        return simulate(served, profile, run.config, kv_tokens)
    return serve_closed(served, number, profile, run.config, client_delay_s(run, number), kv_tokens)


def serve_closed(
    served: Workload,
    number: int,
    profile: Profile,
    config: EngineConfig,
    think_s: float = 0.0,
    kv_tokens: int | None = None,
) -> Run:
    """The requests in their order, `number` of them always in flight; when they are used up, the same again.

    Parameters
    ----------
    served
        When they arrive does not matter.
    think_s
        From an answer to the same client's next request; the front end's own time comes on top.

    Raises
    ------
    CapacityError, InputError
        As `simulate`.
    """
    return simulate(replace(served, pattern=ArrivalPattern(number, think_s)), profile, config, kv_tokens)


def client_delay_s(run: Run, number: int) -> float:
    """Median time from a finish to the sending that it caused, in a closed loop of `number` requests."""
    start_s, end_s = np.sort(sent_s(run)[served_rows(run)])[number:], np.sort(run.requests.finish_s[finished(run)])
    num = min(len(start_s), len(end_s))
    return max(0.0, float(np.median(start_s[:num] - end_s[:num]))) if num else 0.0
