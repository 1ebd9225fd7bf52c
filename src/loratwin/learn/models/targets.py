"""What is predicted: of a workload, or of a server."""

from __future__ import annotations

from dataclasses import dataclass, field

from loratwin.errors import UnknownNameError


@dataclass(frozen=True)
class Target:
    """Something to predict.

    Parameters
    ----------
    level
        `workload`: one row for each workload; `configuration`: one for each server that starts.
    monotone
        By feature: -1 where more of it never gives more, +1 never less. What physics says.
    log
        Learned as its logarithm: errors count by ratio.
    estimate
        The logarithms of features whose weighted sum is an estimate of what is learned, but for a constant: models
        that start from it learn what it leaves over.
    """

    name: str
    unit: str
    level: str
    monotone: dict[str, int]
    log: bool = True
    estimate: dict[str, float] = field(default_factory=dict)


_EDGE = {"estimated_adapters": 1.0}
_LESS_WITH_LOAD = {
    **dict.fromkeys(("tokens_per_s", "rate_mean", "kv_per_adapter", "rank_max", "rank_mean"), -1),
    "estimated_adapters": 1,
}

TARGETS = {
    target.name: target
    for target in (
        Target("served", "adapters", "workload", _LESS_WITH_LOAD, estimate=_EDGE),
        Target("throughput", "tokens/s", "workload", {}, estimate={**_EDGE, "tokens_per_s": 1.0}),
        Target("slots", "slots", "workload", {}),
        Target("latency_slots", "slots", "workload", {}),
        Target("share", "of offered tokens", "configuration", {"log_utilization": -1, "log_requests_per_s": -1}, False),
        Target("ttft", "ms", "configuration", {}),
        Target("tpot", "ms", "configuration", {"log_step_s": 1}, estimate={"log_step_s": 1.0}),
        Target("itl", "ms", "configuration", {"log_step_s": 1}, estimate={"log_step_s": 1.0}),
    )
}


def known_target(name: str) -> Target:
    """A target by name.

    Raises
    ------
    UnknownNameError
        There is none.
    """
    if name not in TARGETS:
        raise UnknownNameError("target", name, TARGETS)
    return TARGETS[name]
