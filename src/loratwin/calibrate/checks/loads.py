"""The workloads of a check: what a server surely carries, and what it surely does not, for each number of slots.

Whether a server starves is a question of yes or no, and near the line between them the machine's own noise decides. A
plan must not lead there, so that a check asks where the profile is sure: `near` is the highest load that no plausible
profile starves at, `open` and `bursts` are parts of it, `over` is a load that all of them starve at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loratwin.calibrate.checks.plausible import plausible_profiles
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

_NEAR, _OVER = 0.9, 1.5
"""Parts of the capacity to begin with."""

_PART_OF_NEAR = 0.6
_POISSON: dict[str, object] = {"kind": "poisson"}
_BURSTS: dict[str, object] = {"kind": "on_off", "on_s": 1.0, "off_s": 1.5}
_STEP = 1.08
_MOST_STEPS = 20


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
    likely = plausible_profiles(profile)
    checks = []
    for number in slots:
        server = config.replace(max_loras=number, max_cpu_loras=max(number, len(adapters)))
        loads = _LoadSearch(server, adapters, window_s, [profile, *likely])
        carried = _capacity(profile, server, adapters)
        near = loads.sure(_NEAR * carried, _POISSON, 0.6, seed + 1, starved=False)
        drawn = {
            "open": loads.sure(_PART_OF_NEAR * near[0], _POISSON, 0.0, seed, starved=False),
            "near": near,
            "over": loads.sure(_OVER * carried, _POISSON, 0.0, seed + 2, starved=True),
            "bursts": loads.sure(_PART_OF_NEAR * near[0], _BURSTS, 0.6, seed + 3, starved=False),
        }
        checks += [Check(f"{kind}-{number}", server, workload) for kind, (_, workload) in drawn.items()]
    return checks


@dataclass(frozen=True)
class _LoadSearch:
    """Loads of one server, and the profiles that are to agree on them."""

    config: EngineConfig
    adapters: Adapters
    window_s: float
    profiles: Sequence[Profile]

    def sure(
        self, rate: float, arrivals: dict[str, object], exponent: float, seed: int, starved: bool
    ) -> tuple[float, Workload]:
        """The total rate next to this one at which all profiles say `starved` (or all say the contrary).

        Where they never agree it is the last that was tried: the check then shows it.
        """
        lengths = _lengths(_longest(self.profiles[0], self.config))
        for _ in range(_MOST_STEPS):
            drawn = draw(_spec(self.adapters, rate, arrivals, exponent, self.window_s, lengths), seed)
            if all(self._starves(drawn, profile) == starved for profile in self.profiles):
                break
            rate *= _STEP if starved else 1 / _STEP
        return rate, drawn

    def _starves(self, drawn: Workload, profile: Profile) -> bool:
        return starvation(simulate(drawn, profile, self.config)).starved


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


def _capacity(profile: Profile, config: EngineConfig, adapters: Adapters) -> float:
    """Requests per second that the twin finishes when it is offered ever more: what it carries."""
    rate, lengths = 4.0, _lengths(_longest(profile, config))
    while rate < 1e5:
        spec = _spec(adapters, rate, _POISSON, 0.0, _PROBE_S, lengths)
        summary = summarize(simulate(draw(spec, 0), profile, config), percentiles=False)
        if summary.served_share < 0.6:
            return summary.request_throughput
        rate *= 2
    raise InputError(
        "the twin is never saturated by these workloads: the profile's step times are too small to be true"
    )
