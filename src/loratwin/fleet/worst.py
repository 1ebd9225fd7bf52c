"""Which adapters of a verified placement wait longest."""

from __future__ import annotations

from math import inf, isnan, nan

from loratwin.fleet.judge import Judge
from loratwin.fleet.packing import Packed, Packer
from loratwin.fleet.plan_result import WorstAdapter
from loratwin.metrics import per_adapter
from loratwin.plan.trial import Trial

LOOKED_AT = 64
"""Servers whose adapters are looked at for the worst: those of the longest TTFT."""


def worst_adapters(judge: Judge, packed: Packed) -> list[WorstAdapter]:
    """Adapters by TTFT in the 99th percentile (first seed), each where it fares worst; one at least."""
    servers = Packer.servers(packed.entries, packed.kinds)

    def tail(j: int) -> float:
        value = packed.candidates[j].mean("ttft_p99_ms")
        return -inf if isnan(value) else value

    slowest = sorted(range(len(servers)), key=lambda j: (-tail(j), j))[:LOOKED_AT]
    found: dict[str, WorstAdapter] = {}
    for j in slowest:
        number = judge.num_adapters(servers[j])
        rows = per_adapter(judge.oracle.bench(servers[j]).simulate(Trial(packed.candidates[j].config, number)))
        for i, who in enumerate(rows.name):
            p99 = float(rows.ttft_p99_ms[i])
            if not isnan(p99) and (who not in found or p99 > found[who].ttft_p99_ms):
                mean = float(rows.ttft_mean_ms[i])
                found[who] = WorstAdapter(who, f"gpu-{j}", p99, mean, int(rows.requests[i]))
    return sorted(found.values(), key=lambda each: (-each.ttft_p99_ms, each.name)) or [
        WorstAdapter("", "", nan, nan, 0)
    ]
