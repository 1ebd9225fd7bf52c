"""The hours that are timed."""

from __future__ import annotations

from typing import NamedTuple

from loratwin.perf import Profile, load_profile
from loratwin.records import EngineConfig
from loratwin.workload import Prefix, Workload, WorkloadSpec, draw, uniform_groups

PROFILE: Profile = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")


class Hour(NamedTuple):
    """A workload and the server that it meets."""

    spec: WorkloadSpec
    config: EngineConfig

    def draw(self) -> Workload:
        """Its requests."""
        return draw(self.spec, seed=0)


def _spec(requests_per_s: float, window_s: float = 3600.0) -> WorkloadSpec:
    return uniform_groups([requests_per_s / 192], [192], [8, 16], prompt_mean=223, output_mean=197, window_s=window_s)


def _config(max_loras: int, **limits: int) -> EngineConfig:
    return EngineConfig(max_loras=max_loras, max_lora_rank=16, max_num_seqs=2048, **limits)


BUSY = Hour(_spec(40_000 / 3600), _config(96))
"""192 adapters in 96 slots, 40,000 requests: the server keeps up, and swaps adapters in all the time."""

ROOMY = Hour(_spec(40_000 / 3600), _config(192))
"""The same with a slot for each adapter."""

OVERLOAD = Hour(_spec(1_300_000 / 3600), _config(96, max_in_flight=28_000))
"""1.3 million arrivals, of which one in seventeen is served."""


def _with_prefix(hour: Hour, tokens: int = 200) -> Hour:
    """The same with so many more tokens before each prompt, the same for all of an adapter."""
    (group,) = hour.spec.groups
    shared = group.model_copy(update={"prefix": Prefix(tokens=tokens)})
    return hour._replace(spec=hour.spec.model_copy(update={"groups": (shared,)}))


SHARED, SHARED_OVERLOAD = _with_prefix(BUSY), _with_prefix(OVERLOAD)
"""Two of them with a prefix cache that is of use."""

MINUTE = Hour(_spec(40_000 / 3600, window_s=60.0), _config(96))
"""Short enough for the reference."""
