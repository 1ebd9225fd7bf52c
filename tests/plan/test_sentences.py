"""Verdicts and reasons in words."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import numpy as np
import pytest

from loratwin.metrics import SloRows, parse_slo
from loratwin.plan import MarginInterval, Shortfall, explanation, plan, verdict
from loratwin.plan.limits import FARTHEST, STEP
from loratwin.plan.sentences import (
    binding,
    changes,
    customers_sentences,
    margin_sentence,
    margin_text,
    why_not_all,
    works_or_not,
)
from loratwin.plan.trial import KV_MEMORY, SLOTS, Result
from tests.plan.candidates import candidate, not_starting
from tests.plan.small import impossible, on, overloaded, profile, served, spec


def test_who_keeps_up_may_be_slow() -> None:
    slo = parse_slo("ttft_p99=2s")
    assert works_or_not(candidate(8, tail_ms=9e3), None) == "works"
    assert works_or_not(candidate(8, tail_ms=11e3), None) == "works, but slow"
    assert works_or_not(candidate(8, tail_ms=11e3, ttft_p99_s=11.0), slo) == "misses SLO"


def test_one_gpu_serves_all() -> None:
    found = served()
    assert found.best is not None
    what = f"One GPU serves all 24 adapters with {found.best.slots} slots of rank 16, with 20 % headroom"
    assert verdict(found) == f"{what}; the chance that this holds is more than 99 %."
    assert not any("Why" in line for line in explanation(found))


def test_one_gpu_serves_some_with_the_reason_and_how_many_gpus() -> None:
    found = overloaded()
    assert verdict(found).startswith(f"One GPU serves {len(found.served)} of the 24 adapters, with ")
    why, gpus, *_ = explanation(found)
    assert why.startswith("Why not all: they starve with any slots.")
    assert "max_num_seqs" in why  # fixed at 256 there
    assert f"about {-(-24 // len(found.served))} such GPUs" in gpus
    assert "assumed" in gpus
    assert found.shortfall is not None
    assert "the GPU does not compute fast enough" in why
    relaxed = replace(found.shortfall, without_memory_limit=Result(True, False, 0.99))
    assert "memory is what is short" in why_not_all(found, relaxed)


def test_what_serves_is_what_the_profile_is_of() -> None:
    assert verdict(on(served(), tensor_parallel=4)).startswith("4 GPUs together serve all 24 adapters")
    assert verdict(on(served(), kv_gib=1.0)).startswith("One server serves all 24 adapters")
    assert "None works: 2 GPUs together cannot" in verdict(on(impossible(), tensor_parallel=2))
    why, servers, *_ = explanation(on(overloaded(), tensor_parallel=2))
    assert "such servers are needed" in servers and "the GPUs do not compute fast enough" in why


def test_none_works_says_by_how_much() -> None:
    found = impossible()
    assert verdict(found) == "None works: one GPU cannot serve even one of the 24 adapters within ttft_p99=1ms."
    (why,) = explanation(found)
    assert why.startswith("Why: the SLO is missed with any configuration.")
    assert "ttft_p99 is" in why
    assert "times its limit" in why


def test_a_server_that_does_not_start_says_why() -> None:
    found = plan(spec(), profile(), seeds=(0,), gpu_memory_utilization=0.2, max_model_len=4096)
    assert "no server starts: with 8 slots, the fewest tried, the weights" in explanation(found)[0]


def test_a_context_that_nobody_needs_is_pointed_out() -> None:
    found = plan(spec(), profile(), seeds=(0,), slots=[8, 24], gpu_memory_utilization=0.5)
    assert any("The longest here has 150 tokens: a lower --max-model-len makes room" in x for x in explanation(found))


def test_keeping_up_behind_a_queue_is_not_sold_as_good() -> None:
    found = served()
    assert found.best is not None
    slow = replace(found.best, figures=candidate(8, ttft_ms=42_000).figures, starving_adapters=3.0)
    slowly = replace(found, choice=replace(found.choice, best=slow))
    assert verdict(slowly).endswith(", but behind a long queue; the chance that this holds is more than 99 %.")
    assert "first token takes 42 s on average" in explanation(slowly)[0]
    assert "About 3 adapters starve for themselves" in explanation(slowly)[1]


@pytest.mark.parametrize(
    ("margin", "text"),
    [(nan, ""), (1.0, "0 %"), (STEP**5, "+28 %"), (STEP**-5, "-22 %"), (STEP**FARTHEST, "> +376 %"), (0.0, "< -79 %")],
)
def test_margins(margin: float, text: str) -> None:
    assert margin_text(margin) == text


def test_margin_sentences() -> None:
    assert margin_sentence(candidate(8, margin=1.05), False) == "Margin: all rates can grow by 5 % before it starves."
    edge = margin_sentence(candidate(8, margin=1.0), True)
    assert edge == "It is at the edge: with 5 % more traffic it starves or misses the SLO."
    assert "was not searched" in margin_sentence(candidate(8), False)


def test_how_well_the_margin_is_known() -> None:
    found = replace(served(), margin_interval=MarginInterval(1.5, 2.25, 0.9, 75.0, 2.5))
    (said,) = [line for line in explanation(found) if "it lies from" in line]
    assert "it lies from +50 % to +125 % (90 %)" in said
    assert "looked at for 1.25 of the window's 5 minutes it would be +150 %" in said


def test_who_misses_the_slo_is_named() -> None:
    slo = parse_slo("ttft_p99=2s,tpot_mean=1s")
    yes, no = np.array([[True] * 7 + [False] * 2] * 2), np.array([[False] * 8 + [True]] * 2)
    names = tuple(f"a{i}" for i in range(9))
    rows = SloRows(slo.limits, names, np.full(9, 3, np.int32), np.full((2, 9), 3.0), yes, no)
    found = replace(served(), slo=slo, customers=rows)
    said = customers_sentences(found)
    assert said[0] == (
        "7 of 9 adapters miss it by themselves: a0, a1, a2, a3, a4 and 2 more; --slo-for adapters asks it of each."
    )
    assert said[1] == "1 adapter has too few requests in the window for ttft_p99 to be told."
    assert verdict(replace(found, slo_for="adapters")).count("within ttft_p99=2s, tpot_mean=1s for every adapter") == 1
    missing = candidate(8, missing=("a0", "a1"))
    assert changes(candidate(16), missing).startswith("it misses the SLO")
    why = why_not_all(replace(found, slo_for="adapters"), Shortfall((missing,), missing, None))
    assert why.endswith("the closest, tpot_mean is beyond its limit and 2 adapters miss it (a0, a1).")


def test_a_headroom_that_nothing_has_names_the_best_there_is() -> None:
    found = replace(served(), headroom=0.5)
    nearest = candidate(8, has_headroom=False, margin=1.26)
    lacking = Shortfall((nearest,), nearest, None)
    assert why_not_all(found, lacking) == (
        "with rates 50 % higher no configuration works for all of them; the best there is has 8 slots and a margin of "
        "+26 % (--headroom 26%)."
    )


def test_a_headroom_that_one_draw_alone_has_is_not_offered() -> None:
    found = replace(served(), headroom=0.3)
    nearest = candidate(8, has_headroom=False, margin=1.3)
    why = why_not_all(found, Shortfall((nearest,), nearest, None))
    assert why.endswith("a margin of +30 % with one draw of the workload, and less with another: ask for less.")


def test_what_another_configuration_changes() -> None:
    best, other = candidate(16), candidate(8, 800, ttft_ms=2500, starved=True)
    assert changes(best, other) == (
        "it starves, mean TTFT 2.5 s instead of 100 ms, mean TPOT the same, throughput -20 %, KV tokens the same"
    )
    assert changes(best, not_starting(64)) == "the server does not start (no room)"


def test_what_binds() -> None:
    assert binding(candidate(8, waits={SLOTS: 30.0, KV_MEMORY: 10.0})).startswith("75 % of the waiting is for a slot")
    assert binding(candidate(8, waits={SLOTS: 0.2})) == "hardly any request waits"
