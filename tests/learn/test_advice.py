"""Advice by the learned model alone."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.learn.cases.case import mix_of
from loratwin.learn.cases.design import LLAMA, design
from loratwin.learn.models.advice import advice_text, burstiness, mix_of_workload, predict
from loratwin.learn.models.model import load_model
from loratwin.simulate import try_config
from loratwin.workload import AdapterGroup, BaseTraffic, Fixed, Gamma, Poisson, Separate, WorkloadSpec, draw
from tests.learn.small import PROFILE


def spec(total_rate: float, adapters: int = 96, **more: object) -> WorkloadSpec:
    group = AdapterGroup(name="a", count=adapters, total_rate=total_rate, ranks=(8, 16), **more)
    return WorkloadSpec(window_s=600, groups=(group,))


def test_the_twin_agrees_with_the_answer() -> None:
    workload = draw(spec(6.0).model_copy(update={"window_s": 3600.0}), 0)
    found = predict(workload, PROFILE, load_model())
    assert found.config is not None and found.throughput is not None and found.slots in found.near_slots
    seen = try_config(workload, PROFILE, found.config).summary
    assert seen is not None and not seen.starved
    assert found.throughput.low <= seen.total_throughput <= found.throughput.high * 1.02
    assert found.tpot_ms is not None and found.tpot_ms.low < found.tpot_ms.value < found.tpot_ms.high
    assert found.tpot_ms.value == pytest.approx(seen.tpot_mean_ms, rel=0.25)
    assert found.most_adapters.low < found.most_adapters.value < found.most_adapters.high
    assert found.most_adapters.low > 96


def test_what_starves_is_not_advised() -> None:
    found = predict(spec(28.0), PROFILE, load_model())  # two thirds are served
    assert found.slots is None and found.config is None and found.throughput is None
    assert found.most_adapters.value < 96
    assert "It starves with any slots, says the learned model." in advice_text(found).splitlines()


def test_of_slots_that_are_as_good_the_most_are_taken() -> None:
    found = predict(spec(1.0, 40), PROFILE, load_model())
    assert found.slots is not None and found.slots > min(found.near_slots)


def test_given_slots_are_the_only_ones() -> None:
    assert predict(spec(6.0), PROFILE, load_model(), slots=[24]).slots == 24
    nothing = predict(spec(6.0, 2000), PROFILE, load_model(), slots=[2000])
    assert nothing.slots is None and "a server with 2000 or more slots of rank 16 does not start" in nothing.notes


def test_latency_has_its_own_answer() -> None:
    workload = draw(spec(12.0, 300), 0)
    by_latency = predict(workload, PROFILE, load_model(), "latency")
    by_throughput = predict(workload, PROFILE, load_model())
    assert by_latency.ttft_ms is not None and by_throughput.ttft_ms is not None
    assert by_latency.slots is not None and by_latency.slots > 4


def test_a_drawn_case_looks_as_the_case_itself() -> None:
    case = next(case for case in design("published", 50) if case.profile == LLAMA and case.mean_rate < 0.1)
    drawn, told = mix_of_workload(draw(case.spec(120), 0)), mix_of(case)
    assert drawn.mean_rate == pytest.approx(told.mean_rate)
    assert drawn.rate_cv == pytest.approx(told.rate_cv)
    assert drawn.context_mean == pytest.approx(told.context_mean, rel=0.05)
    assert (drawn.rank_max, drawn.max_lora_rank, drawn.arrivals_cv) == (told.rank_max, told.max_lora_rank, 1.0)


def test_burstiness_is_seen_in_the_arrivals() -> None:
    assert burstiness(draw(spec(20.0, 10, arrivals=Gamma(cv=3.0)), 0)) == pytest.approx(3.0, rel=0.2)
    assert burstiness(draw(spec(20.0, 10, arrivals=Poisson()), 0)) == 1.0
    assert burstiness(draw(spec(0.05, 10), 0)) == 1.0  # too few requests to say


def test_many_rates_are_reduced_and_keep_their_mean() -> None:
    workload = draw(spec(6.0, 500, popularity="zipf"), 0)
    mix = mix_of_workload(workload)
    assert len(mix.rate_per_s) == 64 and mix.weight.sum() == pytest.approx(1)
    assert mix.mean_rate == pytest.approx(6.0 / 500)
    assert mix.rate_cv == pytest.approx(np.std(workload.adapters.rate_per_s) / (6.0 / 500), rel=0.1)


def test_what_was_not_learned_is_refused() -> None:
    with pytest.raises(InputError, match="also uses the LLM without adapter, which was not learned"):
        both = WorkloadSpec(window_s=60, base=BaseTraffic(rate=1.0), groups=spec(1.0).groups)
        predict(both, PROFILE, load_model())
    with pytest.raises(InputError, match="no adapters or no requests; there is nothing to predict"):
        predict(WorkloadSpec(window_s=60, base=BaseTraffic(rate=1.0)), PROFILE, load_model())


def test_slots_that_do_not_start_are_the_reason() -> None:
    group = AdapterGroup(name="a", count=60, total_rate=5.0, ranks=(512,))
    found = predict(WorkloadSpec(window_s=600, groups=(group,)), PROFILE, load_model())
    assert "a server with 8 or more slots of rank 512 does not start" in found.notes


def test_prompts_that_the_llm_does_not_take_are_refused() -> None:
    longest = PROFILE.llm.max_model_len
    long = spec(1.0).model_copy(update={"lengths": Separate(prompt=Fixed(tokens=longest), output=Fixed(tokens=8))})
    with pytest.raises(InputError, match=f"a prompt of {longest} tokens does not fit max_model_len"):
        predict(long, PROFILE, load_model())


def test_two_models_that_disagree_say_so() -> None:
    found = predict(spec(500.0, 1), PROFILE, load_model())
    assert found.config is None and round(found.most_adapters.value) == 1
    assert any("the two disagree so near the edge" in line for line in advice_text(found).splitlines())
