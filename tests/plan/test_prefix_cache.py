"""What the prefix cache is worth to a plan: said, exported, and in the command."""

from __future__ import annotations

import pytest

from loratwin.formatting import share
from loratwin.perf import load_profile
from loratwin.plan import Plan, plan, plan_json, plan_text, serve_command
from loratwin.workload import AdapterGroup, Prefix, Separate, Sessions, WorkloadSpec

PROFILE = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")


def planned(prefix: Prefix | None = None, sessions: Sessions | None = None, **settings: object) -> Plan:
    group = AdapterGroup(
        name="chats", count=8, rate=0.2, prefix=prefix, sessions=sessions, lengths=Separate(prompt=100, output=60)
    )
    spec = WorkloadSpec(window_s=120, groups=[group])
    return plan(spec, PROFILE, seeds=[0], slots=[8], max_num_seqs=64, headroom=0.0, settings=settings)


@pytest.fixture(scope="module")
def shared() -> Plan:
    return planned(Prefix(tokens=1500), Sessions(turns=3, think_s=3, growth=40))


def test_the_plan_says_what_the_cache_is_worth(shared: Plan) -> None:
    text, without, run = plan_text(shared), shared.without_cache, shared.run
    assert without is not None and run is not None and run.prefix_cache is not None
    said = f"The prefix cache has {share(run.prefix_cache.hit_rate)} of the prompt tokens; without it"
    assert said in text
    assert shared.best is not None and without.ttft_mean_ms > 1.3 * shared.best.mean("ttft_mean_ms")
    assert "--enable-prefix-caching" in serve_command(shared)
    data = plan_json(shared)
    assert data["without_prefix_cache"]["ttft_mean_ms"] == pytest.approx(without.ttft_mean_ms)
    assert data["best"]["figures"]["prefix_hit_rate"]["mean"] > 0.7


def test_where_nothing_is_shared_nothing_is_said() -> None:
    alone = planned()
    assert alone.without_cache is None and "prefix" not in serve_command(alone)
    assert "The prefix cache has" not in plan_text(alone)


def test_a_server_without_the_cache_is_planned_as_asked() -> None:
    off = planned(Prefix(tokens=1500), enable_prefix_caching=False)
    assert off.without_cache is None and off.run is not None and off.run.prefix_cache is None
    assert "--no-enable-prefix-caching" in serve_command(off)
