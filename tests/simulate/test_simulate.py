"""One run of the twin: what goes in, what comes out, what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratwin.errors import CapacityError, InputError
from loratwin.kernel import StepFeatures, step_time_s
from loratwin.metrics import summarize
from loratwin.records import EngineConfig, Run, save_run
from loratwin.simulate import served_capacity, simulate
from loratwin.workload import BASE, draw
from tests.simulate.servers import CONFIG, KV_BLOCK, PROFILE, SPEC, with_domain, workload
from tests.slow import examples, slow

DEMAND = draw(SPEC, seed=1)


def test_one_request_takes_the_time_of_its_steps() -> None:
    """100 prompt tokens in one step, then 9 more tokens, one a step; the adapter is in its slot from the start."""
    run = simulate(workload([1.0], prompt=100, output=10), PROFILE, CONFIG)
    cost = PROFILE.step_time.resolve(slots=8, rank=16)
    none = StepFeatures(*([0] * 10))
    first = none._replace(
        prefill_tokens=100, lora_prefill_tokens=100, prefill_context=5000, distinct_adapters=1, running=1
    )
    later = [
        none._replace(decode_requests=1, decode_context=99 + i, distinct_adapters=1, running=1) for i in range(1, 10)
    ]
    durations = [step_time_s(cost, step) for step in (first, *later)]
    assert run.steps is not None
    np.testing.assert_allclose(run.steps.duration_s, durations, rtol=1e-12)
    assert run.requests.admitted_s[0] == 1.0
    assert run.requests.first_token_s[0] == pytest.approx(1.0 + durations[0], rel=1e-12)
    assert run.requests.finish_s[0] == pytest.approx(1.0 + sum(durations), rel=1e-12)


def test_the_run_says_what_it_is() -> None:
    run = simulate(DEMAND, PROFILE, CONFIG)
    assert (run.kind, run.window_s, run.config) == ("simulated", 120.0, CONFIG)
    assert run.kv_tokens == served_capacity(PROFILE, CONFIG).tokens
    assert run.provenance.profile == PROFILE.name
    assert run.provenance.profile_hash == PROFILE.digest
    assert run.provenance.seed == 1
    assert run.client_overhead_s == PROFILE.frontend.overhead_s
    assert run.adapters.name == DEMAND.adapters.name
    np.testing.assert_array_equal(run.requests.arrival_s, DEMAND.arrival_s)


def test_the_workload_is_left_alone_and_can_be_used_again() -> None:
    before = DEMAND.output_tokens.copy()
    simulate(DEMAND, PROFILE, CONFIG.replace(max_model_len=250))
    np.testing.assert_array_equal(DEMAND.output_tokens, before)


def check_conservation(run: Run) -> None:
    """Every request that arrived finished, was refused, or is unfinished; and did so in the order of time."""
    summary, table = summarize(run, percentiles=False), run.requests
    assert summary.completed + summary.refused + summary.censored == summary.arrived == len(table)
    assert min(summary.completed, summary.refused, summary.censored) >= 0
    assert not np.any(table.refused & ~np.isnan(table.admitted_s))
    done = ~np.isnan(table.finish_s)
    assert np.all(table.arrival_s[done] <= table.admitted_s[done])
    assert np.all(table.admitted_s[done] < table.first_token_s[done])
    assert np.all(table.first_token_s[done] <= table.finish_s[done])
    at_once = table.output_tokens[done] == 1
    np.testing.assert_array_equal(table.first_token_s[done] == table.finish_s[done], at_once)


def check_steps(run: Run) -> None:
    """No step exceeds a limit of the server, or a token that was asked for is computed twice without preemption."""
    steps, config, table = run.steps, run.config, run.requests
    assert steps is not None
    assert steps.running.max(initial=0) <= config.max_num_seqs
    assert (steps.decode_requests + steps.prefill_tokens).max(initial=0) <= config.max_num_batched_tokens
    assert steps.kv_blocks.max(initial=0) <= run.kv_tokens // config.block_size
    if config.max_loras:
        assert steps.distinct_adapters.max(initial=0) <= config.max_loras
    assert np.all(steps.start_s[1:] >= (steps.start_s + steps.duration_s)[:-1] - 1e-9)
    if np.isnan(table.finish_s).any() or table.num_preemptions.any():
        return
    assert steps.prefill_tokens.sum() == table.prompt_tokens.sum()
    assert steps.decode_requests.sum() == (table.output_tokens - 1).sum()


@examples(every_day=40, thorough=600)
@given(
    max_loras=st.sampled_from([1, 2, 5, 24, 60]), max_num_seqs=st.sampled_from([1, 4, 256]),
    budget=st.sampled_from([256, 1000]), max_in_flight=st.sampled_from([None, 1, 20]), seed=st.integers(0, 3),
    kv_tokens=st.sampled_from([None, 1600, 8000]), speed=st.sampled_from([1.0, 10.0]),
)  # fmt: skip
def test_requests_are_conserved_and_limits_kept(
    max_loras: int, max_num_seqs: int, budget: int, max_in_flight: int | None, seed: int, kv_tokens: int | None,
    speed: float,
) -> None:  # fmt: skip
    window_s = SPEC.window_s / speed
    demand = draw(SPEC.model_copy(update={"window_s": window_s}), seed)
    config = EngineConfig(
        max_loras=max_loras, max_num_seqs=max_num_seqs, max_num_batched_tokens=budget, max_in_flight=max_in_flight
    )
    run = simulate(demand, PROFILE, config, kv_tokens)
    check_conservation(run)
    check_steps(run)


def test_a_slot_for_every_adapter_needs_no_swap_in() -> None:
    assert summarize(simulate(DEMAND, PROFILE, CONFIG.replace(max_loras=24))).swap_ins == 0
    assert summarize(simulate(DEMAND, PROFILE, CONFIG.replace(max_loras=23))).swap_ins > 0


def test_waiting_for_slots_ends_where_there_are_enough() -> None:
    delays = [
        summarize(simulate(DEMAND, PROFILE, CONFIG.replace(max_loras=n))).queueing_mean_ms for n in (1, 2, 4, 8, 24)
    ]
    assert delays == sorted(delays, reverse=True)
    assert delays[0] > 10 * delays[-1]


def test_less_host_memory_means_reads_from_disk() -> None:
    all_held = summarize(simulate(DEMAND, PROFILE, CONFIG))
    few_held = summarize(simulate(DEMAND, PROFILE, CONFIG.replace(max_cpu_loras=8)))
    assert all_held.disk_loads == 0
    assert few_held.disk_loads > 0
    assert few_held.ttft_mean_ms > all_held.ttft_mean_ms


def test_without_requests_the_server_idles() -> None:
    run = simulate(workload([]), PROFILE, CONFIG)
    summary = summarize(run)
    assert (summary.arrived, summary.total_throughput, summary.running_mean) == (0, 0.0, 0.0)
    assert not summary.starved
    assert run.steps is not None
    assert len(run.steps) == 0


def test_between_requests_the_server_idles() -> None:
    run = simulate(workload([1.0, 50.0]), PROFILE, CONFIG)
    assert run.steps is not None
    assert len(run.steps) == 20
    assert np.count_nonzero(np.diff(run.steps.start_s) > 40) == 1


def test_base_traffic_needs_no_lora() -> None:
    demand = workload([0.0, 0.1], adapter=[BASE, BASE], ranks=())
    off = simulate(demand, PROFILE, EngineConfig(max_loras=0))
    on = simulate(demand, PROFILE, EngineConfig(max_loras=8))
    assert summarize(off).completed == summarize(on).completed == 2
    assert off.kv_tokens > on.kv_tokens
    assert summarize(off).itl_mean_ms < summarize(on).itl_mean_ms


def test_adapters_need_lora() -> None:
    with pytest.raises(CapacityError, match="max_loras is 0 .* has adapters"):
        simulate(workload([0.0]), PROFILE, EngineConfig(max_loras=0))


def test_a_rank_above_the_limit_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="adapter 'a1' has rank 64, above max_lora_rank = 16"):
        simulate(workload([0.0], ranks=(8, 64)), PROFILE, CONFIG)


def test_a_server_that_does_not_start_is_refused_with_the_reason() -> None:
    with pytest.raises(CapacityError, match="the server does not start: .* slots of rank 128 take"):
        simulate(workload([0.0]), PROFILE, EngineConfig(max_loras=384, max_lora_rank=128))


@pytest.mark.parametrize("name", ["max_num_batched_tokens", "max_in_flight", "max_cpu_loras"])
def test_a_server_larger_than_any_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} = 1{20 * '0'}, but the twin takes"):
        simulate(DEMAND, PROFILE, CONFIG.replace(**{name: 10**20}))


def test_memory_in_the_wrong_unit_is_refused() -> None:
    in_bytes = PROFILE.memory.model_copy(update={"gpu_gib": 80.0 * 2**30})
    with pytest.raises(InputError, match="KV tokens: the twin takes .* is the memory in GiB"):
        simulate(DEMAND, PROFILE.model_copy(update={"memory": in_bytes}), CONFIG)


def test_a_prompt_that_is_too_long_is_refused() -> None:
    simulate(workload([0.0], prompt=999, output=1), PROFILE, CONFIG.replace(max_model_len=1000))
    with pytest.raises(InputError, match="every prompt is refused: the shortest has 1000 tokens, max_model_len = 1000"):
        simulate(workload([0.0], prompt=1000, output=1), PROFILE, CONFIG.replace(max_model_len=1000))


def test_prompts_that_are_too_long_are_refused_and_the_others_served_as_without_them() -> None:
    demand = workload([0.0, 0.1, 0.2, 0.3], prompt=[90, 100, 50, 4000], output=[5, 5, 5, 5])
    run = simulate(demand, PROFILE, CONFIG.replace(max_model_len=100))
    assert run.requests.refused.tolist() == [False, True, False, True]
    assert run.requests.arrival_s.tolist() == [0.0, 0.1, 0.2, 0.3]
    assert run.requests.prompt_tokens.tolist() == [90, 100, 50, 4000]
    note = "2 prompts refused: the longest has 4000 tokens, max_model_len = 100 leaves room for 99"
    assert note in run.provenance.notes
    alone = simulate(workload([0.0, 0.2], prompt=[90, 50], output=[5, 5]), PROFILE, CONFIG.replace(max_model_len=100))
    served = ~run.requests.refused
    for name in ("first_token_s", "finish_s", "num_preemptions"):
        assert getattr(run.requests, name)[served].tolist() == getattr(alone.requests, name).tolist()
    assert np.isnan(run.requests.finish_s[~served]).all()
    assert summarize(run).refused == 2


def test_outputs_end_at_the_longest_context() -> None:
    demand = workload([0.0, 1.0], prompt=[90, 50], output=[30, 20])
    run = simulate(demand, PROFILE, CONFIG.replace(max_model_len=100))
    assert run.requests.output_tokens.tolist() == [10, 20]
    assert "1 outputs end at max_model_len = 100" in run.provenance.notes
    assert not np.isnan(run.requests.finish_s).any()
    by_one = simulate(demand, PROFILE, CONFIG.replace(max_model_len=119))
    assert by_one.requests.output_tokens.tolist() == [29, 20]
    whole = simulate(demand, PROFILE, CONFIG.replace(max_model_len=120))
    assert whole.requests.output_tokens.tolist() == [30, 20]
    assert not any("end at" in note for note in whole.provenance.notes)


def test_leaving_the_domain_is_noted() -> None:
    inside = simulate(workload([0.0]), with_domain(), CONFIG)
    outside = simulate(workload([0.0]), with_domain(max_loras=(16, 64), prompt_tokens_mean=(1, 50)), CONFIG)
    assert inside.provenance.notes == ()
    assert outside.provenance.notes == (
        "outside the profile's domain: max_loras = 8, measured 16 to 64",
        "outside the profile's domain: prompt_tokens_mean = 100, measured 1 to 50",
    )


def test_the_kv_cache_can_be_given() -> None:
    """One block is vLLM's own, so 10 blocks hold 9; a request that needs more at the end is preempted for ever."""
    fits = 9 * KV_BLOCK - 100 + 1
    run = simulate(workload([0.0], prompt=100, output=fits), PROFILE, CONFIG, kv_tokens=10 * KV_BLOCK)
    assert run.kv_tokens == 160
    assert run.steps is not None
    assert run.steps.kv_blocks.max() == 9
    with pytest.raises(InputError, match="does not fit the KV cache of 144 tokens"):
        simulate(workload([0.0], prompt=100, output=fits + 1), PROFILE, CONFIG, kv_tokens=10 * KV_BLOCK)


def test_arrivals_beyond_the_limit_in_flight_are_refused() -> None:
    run = simulate(workload([0.0] * 5, output=2), PROFILE, CONFIG.replace(max_in_flight=3))
    assert run.requests.refused.tolist() == [False] * 3 + [True] * 2


SAVE = """
import sys
from loratwin.records import save_run
from loratwin.simulate import simulate
from loratwin.workload import draw
from tests.simulate.servers import CONFIG, PROFILE, SPEC
save_run(simulate(draw(SPEC, 1), PROFILE, CONFIG), sys.argv[1])
"""


@slow
def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    save_run(simulate(draw(SPEC, 1), PROFILE, CONFIG), here)
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", SAVE, str(there)], cwd=root, check=True, env={"PYTHONHASHSEED": "7"})
    assert there.read_bytes() == here.read_bytes()
