"""The workloads of a check: what a server surely carries, and what it surely does not, for each number of slots.

The edge of starvation, by the profile itself, is what a plan leads to, so that a check asks on both sides of it: `near`
is NEAR of the edge, `over` OVER of it; `open` and `bursts` are parts of `near`. How sure the profile is of its verdict
is said as the part of plausible profiles that starve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loratwin.errors import InputError
from loratwin.metrics import starvation, summarize
from loratwin.perf import Profile
from loratwin.records import EngineConfig
from loratwin.simulate import simulate
from loratwin.workload import Adapters, Workload, WorkloadSpec, draw, parse_spec

Lengths = dict[str, float]
_PROMPTS: Lengths = {"mean": 48, "std": 30, "min": 4, "max": 200}
_OUTPUTS: Lengths = {"mean": 18, "std": 9, "min": 2, "max": 60}
_PROBE_S = 10.0

NEAR, OVER = 0.85, 1.2
"""Parts of the edge of starvation."""

NUM_LOADS = 4
"""Workloads of a check on each server: `open`, `near`, `over`, `bursts`."""

WINDOW_S, REPEATS = 18.0, 2
"""Seconds of each workload and its measurements, where time is no matter."""

_PART_OF_NEAR = 0.6
_POISSON: dict[str, object] = {"kind": "poisson"}
_BURSTS: dict[str, object] = {"kind": "on_off", "on_s": 1.0, "off_s": 1.5}
_BEGIN = 0.4
"""Part of what the twin carries that the edge is searched from."""

_STEP, _SURE = 1.04, 5
"""Rates are so much apart, and so many in a row must starve."""

_MOST_STEPS = 80


@dataclass(frozen=True)
class Check:
    """A workload for a server, not measured yet.

    Parameters
    ----------
    name
        What kind of load it is, and the number of slots, as `near-8`.
    config
        What the server is started with.
    workload
        Its requests.
    """

    name: str
    config: EngineConfig
    workload: Workload


def make_checks(
    profile: Profile, config: EngineConfig, slots: Sequence[int], adapters: Adapters, window_s: float, seed: int = 1
) -> list[Check]:
    """The workloads of a check, four for each number of slots, none of which the profile has seen.

    Parameters
    ----------
    profile
        Which is to be checked.
    config
        What the server is started with, but for its slots.
    slots
        Numbers of slots.
    adapters
        That the server has.
    window_s
        Seconds of each workload.
    seed
        Of the first workload; the others take the following.

    Raises
    ------
    InputError
        The twin carries nothing on such a server.
    """
    checks = []
    for number in slots:
        server = config.replace(max_loras=number, max_cpu_loras=max(number, len(adapters)))
        loads = _LoadSearch(server, adapters, window_s, profile)
        most = carried(_probes(profile, server, adapters), profile, server)
        near = NEAR * loads.edge(most, _POISSON, 0.6, seed + 1)
        drawn = {
            "open": loads.drawn(_PART_OF_NEAR * near, _POISSON, 0.0, seed),
            "near": loads.drawn(near, _POISSON, 0.6, seed + 1),
            "over": loads.drawn(OVER * loads.edge(most, _POISSON, 0.0, seed + 2), _POISSON, 0.0, seed + 2),
            "bursts": loads.drawn(_PART_OF_NEAR * near, _BURSTS, 0.6, seed + 3),
        }
        checks += [Check(f"{kind}-{number}", server, workload) for kind, workload in drawn.items()]
    return checks


@dataclass(frozen=True)
class _LoadSearch:
    """Loads of one server."""

    config: EngineConfig
    adapters: Adapters
    window_s: float
    profile: Profile

    def edge(self, most: float, arrivals: dict[str, object], exponent: float, seed: int) -> float:
        """The edge of starvation of such loads on a server that carries so many requests per second."""
        return highest_kept(lambda rate: self.drawn(rate, arrivals, exponent, seed), self.profile, self.config, most)

    def drawn(self, rate: float, arrivals: dict[str, object], exponent: float, seed: int) -> Workload:
        """The requests of such a load."""
        lengths = _lengths(_longest(self.profile, self.config))
        return draw(_spec(self.adapters, rate, arrivals, exponent, self.window_s, lengths), seed)


def highest_kept(
    workload_at: Callable[[float], Workload], profile: Profile, config: EngineConfig, most: float
) -> float:
    """The edge of starvation: the highest rate, to a step, below which the profile keeps up, above which it does not.

    In a short window some busy second may look like a queue that grows: what starves at one rate alone is no edge.

    Parameters
    ----------
    workload_at
        The requests at a rate.
    most
        What the server carries (`carried`); it is searched upwards from a part of that.
    """
    rate, edge, in_a_row = _BEGIN * most, _BEGIN * most, 0
    for _ in range(_MOST_STEPS):
        if starvation(simulate(workload_at(rate), profile, config)).starved:
            in_a_row += 1
        else:
            edge, in_a_row = rate, 0
        if in_a_row == _SURE:
            break
        rate *= _STEP
    return edge


def _longest(profile: Profile, config: EngineConfig) -> int:
    return config.max_model_len or profile.llm.max_model_len


def _lengths(longest: int) -> dict[str, Lengths]:
    """Prompts and outputs, shorter in proportion where the longest of both would not fit the context."""
    share = (longest - 1) / (_PROMPTS["max"] + _OUTPUTS["max"])
    if share >= 1:
        return {"prompt": _PROMPTS, "output": _OUTPUTS}
    return {"prompt": _shorter(_PROMPTS, share), "output": _shorter(_OUTPUTS, share)}


def _shorter(lengths: Lengths, share: float) -> Lengths:
    return {
        "mean": lengths["mean"] * share,
        "std": lengths["std"] * share,
        "min": 2,
        "max": int(lengths["max"] * share),
    }


def _spec(
    adapters: Adapters,
    total_rate: float,
    arrivals: dict[str, object],
    exponent: float,
    window_s: float,
    lengths: Mapping[str, Lengths],
) -> WorkloadSpec:
    popularity = {"kind": "zipf", "exponent": exponent} if exponent else {"kind": "equal"}
    group = {
        "name": "adapters", "count": len(adapters), "names": list(adapters.name), "ranks": adapters.rank.tolist(),
        "total_rate": total_rate, "popularity": popularity, "arrivals": arrivals,
    }  # fmt: skip
    drawn = {name: {"kind": "lognormal", **values} for name, values in lengths.items()}
    return parse_spec({"window_s": window_s, "lengths": drawn, "groups": [group]})


def _probes(profile: Profile, config: EngineConfig, adapters: Adapters) -> Callable[[float], Workload]:
    """Loads that show what a server carries, by their rate."""
    lengths = _lengths(_longest(profile, config))
    return lambda rate: draw(_spec(adapters, rate, _POISSON, 0.0, _PROBE_S, lengths), 0)


def carried(workload_at: Callable[[float], Workload], profile: Profile, config: EngineConfig) -> float:
    """Requests per second that the twin finishes when it is offered ever more: what it carries.

    Parameters
    ----------
    workload_at
        The requests at a rate.

    Raises
    ------
    InputError
        It is never saturated.
    """
    rate = 4.0
    while rate < 1e5:
        summary = summarize(simulate(workload_at(rate), profile, config), percentiles=False)
        if summary.served_share < 0.6:
            return summary.request_throughput
        rate *= 2
    raise InputError(
        "the twin is never saturated by these workloads: the profile's step times are too small to be true"
    )
