"""Shared beginnings and conversations in the twin: what is found, who waits for whom, and the switch."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.metrics import summarize
from loratwin.perf import load_profile
from loratwin.records import EngineConfig, Run, load_run, save_run
from loratwin.simulate import simulate
from loratwin.workload import AdapterGroup, Prefix, Separate, Sessions, Workload, WorkloadSpec, draw

PROFILE = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
CONFIG = EngineConfig(max_loras=16)


def chats(rate: float = 0.05, **changes: object) -> Workload:
    """16 adapters with a beginning each, conversations of three turns: prompts of 900, 1110 and 1320 tokens."""
    group = AdapterGroup(
        name="chats",
        count=16,
        rate=rate,
        prefix=Prefix(tokens=800),
        sessions=Sessions(turns=3, think_s=10, growth=60),
        lengths=Separate(prompt=100, output=150),
    )
    return draw(WorkloadSpec(window_s=600, groups=[group.model_copy(update=changes)]), 1)


def run_of(on: bool | None = None) -> Run:
    return simulate(chats(), PROFILE, CONFIG.replace(enable_prefix_caching=on))


def test_turns_find_whole_blocks_of_what_was_said() -> None:
    """Of an answer the last token is not computed: 1,049 and 1,259 tokens are there, in blocks of 16."""
    table = run_of().requests
    assert table.cached_tokens is not None
    late = table.arrival_s > 300  # every adapter's beginning is there
    for prompt, cached in ((900, 800), (1110, 1040), (1320, 1248)):
        assert set(table.cached_tokens[late & (table.prompt_tokens == prompt)].tolist()) == {cached}


def test_the_summary_counts_what_the_server_counts() -> None:
    run = run_of()
    assert run.prefix_cache is not None and run.requests.cached_tokens is not None
    figures = summarize(run)
    assert figures.cached_tokens == run.prefix_cache.hits == run.requests.cached_tokens.sum()
    assert run.prefix_cache.queries == run.requests.prompt_tokens.sum()
    assert figures.prefix_hit_rate == pytest.approx(run.prefix_cache.hits / run.prefix_cache.queries)
    assert 0.8 < figures.prefix_hit_rate < 0.93


def test_what_is_found_is_not_computed() -> None:
    with_cache, without = run_of(), run_of(on=False)
    assert without.prefix_cache is None and without.requests.cached_tokens is None
    assert summarize(without).cached_tokens is None and np.isnan(summarize(without).prefix_hit_rate)
    assert with_cache.steps is not None and without.steps is not None and with_cache.prefix_cache is not None
    saved = without.requests.prompt_tokens.sum() - with_cache.steps.prefill_tokens.sum()
    assert saved == pytest.approx(with_cache.prefix_cache.hits, rel=0.02)  # the turns of the two come at other times
    assert summarize(with_cache).ttft_mean_ms < 0.6 * summarize(without).ttft_mean_ms


def test_a_turn_comes_so_long_after_the_answer_before_it() -> None:
    """Each second and third turn has its predecessor's end ten seconds before it, to the bit."""
    table = run_of().requests
    ends = np.sort(table.finish_s[np.isfinite(table.finish_s)] + 10.0)
    later = table.arrival_s[table.prompt_tokens > 900]
    assert len(later) > 100
    np.testing.assert_array_equal(ends[np.searchsorted(ends, later)], later)


def test_turns_whose_time_does_not_come_are_not_in_the_record() -> None:
    workload = chats()
    run = simulate(workload, PROFILE, CONFIG)
    assert len(run.requests) < workload.num_requests
    assert run.requests.arrival_s.max() < 600


def test_a_beginning_alone_changes_no_arrival() -> None:
    workload = chats(sessions=None)
    run = simulate(workload, PROFILE, CONFIG)
    np.testing.assert_array_equal(run.requests.arrival_s, workload.arrival_s)


def test_where_nothing_is_shared_the_cache_is_of_no_use() -> None:
    """Bytes as without it, unless somebody is preempted: then only if the server was told to have one."""
    workload = chats(prefix=None, sessions=None)
    runs = [simulate(workload, PROFILE, CONFIG.replace(enable_prefix_caching=on)) for on in (None, False, True)]
    assert [run.prefix_cache is None for run in runs] == [True, True, False]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.requests.finish_s, runs[0].requests.finish_s)
    tight = [simulate(workload, PROFILE, run.config, kv_tokens=1600) for run in (runs[0], runs[2])]
    assert tight[0].requests.num_preemptions.sum() > 0
    assert tight[1].prefix_cache is not None and tight[1].prefix_cache.hits > 0


def test_records_keep_it(tmp_path: object) -> None:
    run = run_of()
    path = f"{tmp_path}/run.json"
    again = load_run(save_run(run, path))
    assert again.prefix_cache == run.prefix_cache
    assert again.requests.cached_tokens is not None
    np.testing.assert_array_equal(again.requests.cached_tokens, run.requests.cached_tokens)
    assert "prefix_cache" not in save_run(run_of(on=False), path).read_text().replace("enable_prefix_caching", "")
