"""Workloads of five minutes, and their plans, made once: they take a second and are used by many tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from loratwin.perf import Profile, load_profile
from loratwin.plan import Plan, plan
from loratwin.workload import AdapterGroup, Equal, Fixed, Separate, WorkloadSpec

LENGTHS = Separate(prompt=Fixed(tokens=100), output=Fixed(tokens=50))
NASTY = "<script>alert('$1')</script>&\"; rm -rf $HOME, a=b"


def profile() -> Profile:
    return load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")


def spec(total_rate: float = 4.0, adapters: int = 24, window_s: float = 300.0) -> WorkloadSpec:
    """Two groups of adapters, one of them with names that are best not trusted."""
    few = AdapterGroup(
        name="odd", count=2, names=(NASTY, "plain name"), ranks=16, total_rate=total_rate / 4, popularity=Equal()
    )
    many = AdapterGroup(name="tenant", count=adapters - 2, ranks=(8, 12), total_rate=total_rate * 3 / 4)
    return WorkloadSpec(window_s=window_s, lengths=LENGTHS, groups=(few, many))


@cache
def served() -> Plan:
    """One GPU serves all of them."""
    return plan(spec(), profile(), seeds=(0, 1), max_num_seqs=[64, 256], max_model_len=4096, name="served")


@cache
def overloaded() -> Plan:
    """One GPU serves some of them."""
    return plan(spec(400.0), profile(), seeds=(0, 1), slots=[4, 8, 16], max_num_seqs=256, max_model_len=4096)


@cache
def impossible() -> Plan:
    """No configuration keeps the SLO."""
    return plan(spec(), profile(), slo="ttft_p99=1ms", seeds=(0,), slots=[8, 24], max_num_seqs=256, max_model_len=4096)


def on(found: Plan, **memory: object) -> Plan:
    """The same plan of a profile whose memory is another one, as `tensor_parallel=4`."""
    changed = found.profile.memory.model_copy(update=memory)
    return replace(found, profile=found.profile.model_copy(update={"memory": changed}))
