"""A workload of any size, and what a model is told of it."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.learn.cases.case import Case, context_mean, mix_of
from loratwin.learn.cases.design import LLAMA
from loratwin.workload import Fixed, Separate, ShareGpt, draw

CASE = Case("x", LLAMA, (0.1, 0.2, 0.6), (8, 8, 32), 220.0, 190.0)


@pytest.mark.parametrize("num", [1, 2, 7, 128])
def test_adapters_share_the_rates_equally(num: int) -> None:
    counts = CASE.counts(num)
    assert sum(counts) == num
    assert max(counts) - min(counts) <= 1


def test_rates_are_those_of_the_measured_runs() -> None:
    assert Case("x", LLAMA, (0.003125, 0.0125, 0.05), (8, 8, 16), 220, 190).counts(128) == (42, 43, 43)


def test_what_does_not_divide_among_the_rates_weighs_as_it_loads() -> None:
    assert CASE.average_adapters(30) == pytest.approx(30)
    assert CASE.average_adapters(1) == pytest.approx(0.6 / 0.3)
    assert CASE.average_adapters(4) == pytest.approx((0.1 + 0.2 + 2 * 0.6) / 0.3)
    assert mix_of(CASE, 4).mean_rate == pytest.approx(1.5 / 4)
    assert mix_of(CASE, 30).mean_rate == pytest.approx(mix_of(CASE).mean_rate)


def test_the_workload_has_these_adapters_ranks_and_lengths() -> None:
    workload = draw(CASE.spec(30), 0)
    assert len(workload.adapters) == 30
    assert workload.adapters.rate_per_s.mean() == pytest.approx(0.3)
    assert workload.adapters.rank[:4].tolist() == [8, 8, 32, 8]
    assert workload.prompt_tokens.mean() == pytest.approx(220, rel=0.02)


def test_bursts_show_in_the_arrivals() -> None:
    calm, bursty = (draw(Case("x", LLAMA, (0.5,), (8,), 9, 9, "lognormal", cv).spec(1), 0) for cv in (1.0, 4.0))
    assert np.diff(bursty.arrival_s).std() > 2 * np.diff(calm.arrival_s).std()


def test_the_slots_have_the_smallest_rank_that_fits() -> None:
    assert CASE.max_lora_rank == 32
    assert Case("x", LLAMA, (1.0,), (8, 17), 9, 9).max_lora_rank == 32
    assert CASE.config(16, 40).max_cpu_loras == 40


def test_the_mix_says_what_the_case_says() -> None:
    mix = mix_of(CASE)
    assert mix.mean_rate == pytest.approx(0.3) and CASE.mean_rate == pytest.approx(0.3)
    assert mix.rate_cv == pytest.approx(np.std([0.1, 0.2, 0.6]) / 0.3)
    assert (mix.rank_min, mix.rank_max, mix.rank_mean, mix.max_lora_rank) == (8, 32, 16, 32)


def test_a_running_request_holds_its_prompt_and_half_of_its_output() -> None:
    assert context_mean(Separate(prompt=Fixed(tokens=100), output=Fixed(tokens=50))) == pytest.approx(125)


def test_long_outputs_run_for_longer_and_so_count_more() -> None:
    varied = context_mean(ShareGpt(prompt_mean=222, output_mean=197, correlation=0.0))
    assert varied > 222 + 197 / 2 + 20
