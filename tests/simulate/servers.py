"""Small servers and workloads to simulate."""

from __future__ import annotations

import numpy as np

from loratwin.perf import Domain, Profile, load_profile
from loratwin.records import EngineConfig
from loratwin.workload import AdapterGroup, Adapters, BaseTraffic, Fixed, Separate, Workload, WorkloadSpec

PROFILE: Profile = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
KV_BLOCK = 16

SPEC = WorkloadSpec(
    window_s=120.0,
    lengths=Separate(prompt=Fixed(tokens=200), output=Fixed(tokens=100)),
    base=BaseTraffic(rate=0.5),
    groups=(AdapterGroup(name="a", count=24, ranks=(8, 16), total_rate=6.0, popularity="zipf"),),
)
"""24 adapters and some base traffic on a server that keeps up."""

CONFIG = EngineConfig(max_loras=8, max_lora_rank=16)


def workload(
    arrival_s: list[float],
    adapter: list[int] | None = None,
    prompt: int | list[int] = 100,
    output: int | list[int] = 10,
    ranks: tuple[int, ...] = (8,),
    window_s: float = 60.0,
) -> Workload:
    """Requests from plain lists; by default all for the only adapter."""
    n = len(arrival_s)
    return Workload(
        arrival_s=np.array(arrival_s, np.float64),
        adapter=np.array([0] * n if adapter is None else adapter, np.int32),
        prompt_tokens=np.broadcast_to(np.asarray(prompt, np.int32), n).copy(),
        output_tokens=np.broadcast_to(np.asarray(output, np.int32), n).copy(),
        adapters=Adapters(
            name=tuple(f"a{i}" for i in range(len(ranks))),
            rank=np.array(ranks, np.int32),
            rate_per_s=np.full(len(ranks), 0.1),
            group=np.zeros(len(ranks), np.int32),
        ),
        window_s=window_s,
        seed=0,
    )


def with_domain(**ranges: tuple[float, float]) -> Profile:
    """The profile, its domain changed (and otherwise without end)."""
    wide = dict.fromkeys(Domain.model_fields, (0, 10**9)) | ranges
    return PROFILE.model_copy(update={"domain": Domain.model_validate(wide)})
