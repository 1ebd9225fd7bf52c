"""The rule that picks a configuration, on candidates made by hand."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest

from loratwin.errors import UnknownNameError
from loratwin.metrics import parse_slo
from loratwin.plan.choice import choose, closest, excess, frontier
from tests.plan.candidates import candidate, not_starting


def test_latency_is_ttft_plus_tpot_for_every_further_token() -> None:
    assert candidate(8, ttft_ms=100, tpot_ms=20).latency_ms == 100 + 20 * 100


def test_most_throughput_wins() -> None:
    choice = choose([candidate(8, 900), candidate(16, 1000), candidate(32, 950)])
    assert choice.best is not None
    assert choice.best.slots == 16
    assert choice.near_slots == (16,)


def test_equal_throughput_is_decided_by_latency_and_then_by_fewer_slots() -> None:
    candidates = [
        candidate(8, 995, tpot_ms=40),
        candidate(16, 1000, tpot_ms=20.1),
        candidate(32, 991, tpot_ms=20.0),
        candidate(64, 989, tpot_ms=1.0),  # 1.1 % less: not equal
    ]
    choice = choose(candidates)
    assert choice.best is candidates[1]
    assert choice.near_slots == (8, 16, 32)


def test_without_tolerance_the_rule_is_exact() -> None:
    candidates = [candidate(16, 1000, tpot_ms=20.1), candidate(32, 1001, tpot_ms=30.0)]
    assert choose(candidates, tolerance=0).best is candidates[1]


def test_least_latency_wins_whatever_the_throughput() -> None:
    candidates = [candidate(8, 2000, tpot_ms=30), candidate(16, 1000, tpot_ms=20), candidate(32, 1000, tpot_ms=19.9)]
    choice = choose(candidates, "latency")
    assert choice.best is candidates[1]  # 32 is faster by less than the noise
    assert choice.near_slots == (16, 32)


def test_fewer_sequences_break_the_last_tie() -> None:
    candidates = [candidate(8, seqs=512), candidate(8, seqs=128)]
    assert choose(candidates).best is candidates[1]


@pytest.mark.parametrize("objective", ["throughput", "latency"])
def test_among_equal_means_the_shorter_tail_wins_and_then_fewer_slots(objective: str) -> None:
    edge, first, second = candidate(40, tail_ms=952), candidate(44, tail_ms=146), candidate(48, tail_ms=140)
    assert choose([edge, first, second], objective).best is first  # type: ignore[arg-type]


def test_among_equals_a_large_margin_comes_before_latency_tail_and_fewer_slots() -> None:
    brink = candidate(26, seqs=64, margin=1.1, tpot_ms=19.0, tail_ms=100)
    roomy = candidate(48, seqs=256, margin=2.29, tpot_ms=20.0, tail_ms=300)
    assert choose([brink, roomy]).best is roomy
    assert choose([brink, roomy], "latency").best is brink  # not equal: 5 % slower
    assert choose([candidate(26, margin=1.1), candidate(48, margin=2.29, tpot_ms=20.1)], "latency").best == candidate(
        48, margin=2.29, tpot_ms=20.1
    )


def test_margins_that_differ_by_a_step_are_equal_where_the_growth_is_large() -> None:
    assert choose([candidate(40, margin=1.05**16), candidate(48, margin=1.05**17)]).best == candidate(
        40, margin=1.05**16
    )
    assert choose([candidate(40, margin=1.05), candidate(48, margin=1.05**2)]).best == candidate(48, margin=1.05**2)


def test_what_lacks_the_headroom_does_not_work_though_it_keeps_up() -> None:
    brink = candidate(8, has_headroom=False, margin=1.05)
    assert brink.keeps_up() and not brink.works()
    assert choose([brink]).best is None
    assert closest([candidate(4, has_headroom=False, margin=1.0), brink, candidate(2, starved=True)]) is brink


def test_a_slow_server_sets_no_margin_to_be_reached() -> None:
    """More slots than needed cost margin; too few let customers wait, however far the rates could grow."""
    slow, prompt = candidate(32, margin=1.98, tail_ms=44_700.0), candidate(64, margin=1.05**12, tail_ms=831.0)
    between = candidate(56, margin=1.05**13, tail_ms=9_350.0, tpot_ms=25.0)
    assert choose([slow, between, prompt]).best == prompt
    assert choose([slow, replace(slow, margin=2.5)]).best == replace(slow, margin=2.5)
    assert choose([slow, candidate(64, margin=1.3)]).best == candidate(64, margin=1.3)  # a tail that nobody knows


def test_among_equal_slots_the_larger_margin_wins_and_then_fewer_sequences() -> None:
    seqs = {128: 1.4, 256: 2.3, 512: 2.9, 1024: 3.1}
    candidates = [candidate(40, seqs=limit, margin=margin) for limit, margin in seqs.items()]
    best = choose(candidates).best
    assert best is not None
    assert best.config.max_num_seqs == 512  # 1024 has no more than noise
    assert choose([candidate(32, margin=2.9), *candidates]).best == candidate(32, margin=2.9)  # then fewer slots


@pytest.mark.parametrize("objective", ["throughput", "latency"])
def test_what_does_not_work_is_never_chosen(objective: str) -> None:
    bad = [candidate(8, 5000, tpot_ms=1, starved=True), not_starting(64), candidate(32, 5000, tpot_ms=1, ttft_p99_s=3)]
    good = candidate(16, 10)
    assert choose([*bad, good], objective, parse_slo("ttft_p99=2s")).best is good  # type: ignore[arg-type]
    assert choose(bad, objective, parse_slo("ttft_p99=2s")).best is None  # type: ignore[arg-type]
    assert choose([], objective).near == ()  # type: ignore[arg-type]


def test_unknown_figures_neither_keep_an_slo_nor_win() -> None:
    unknown = candidate(8, nan, tpot_ms=nan)
    assert [limit.name for limit in unknown.missed(parse_slo("itl_p99=1s"))] == ["itl_p99"]
    known = candidate(16, 1)
    assert choose([unknown, known]).best is known
    assert choose([unknown, known], "latency").best is known


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown objective 'fun'.*latency, throughput"):
        choose([], "fun")  # type: ignore[arg-type]


def test_closest_prefers_keeping_up_then_the_smallest_miss() -> None:
    slo = parse_slo("ttft_p99=2s")
    starving = [candidate(8, share=0.5, starved=True), candidate(16, share=0.8, starved=True)]
    late = [candidate(32, ttft_p99_s=9), candidate(64, ttft_p99_s=5)]
    assert closest([*starving, *late, not_starting(128)], slo) is late[1]
    assert closest(starving, slo) is starving[1]
    assert closest([not_starting(8)], slo) is None


def test_how_far_an_slo_is_missed() -> None:
    slo = parse_slo("ttft_p99=2s,itl_p99=1s")
    assert excess(candidate(8, ttft_p99_s=5), slo) == {"ttft_p99": 2.5, "itl_p99": inf}
    assert excess(candidate(8, ttft_p99_s=1), parse_slo("ttft_p99=2s")) == {}


def test_the_frontier_is_what_no_other_one_beats() -> None:
    fast, slow, wide = candidate(8, ttft_ms=50), candidate(16, ttft_ms=90), candidate(32, ttft_ms=90, margin=2.0)
    assert frontier([fast, slow, wide]) == [fast, wide]
    assert frontier([slow, candidate(64, ttft_ms=90)]) == [slow, candidate(64, ttft_ms=90)]  # as good as each other
    assert frontier([candidate(8, starved=True)]) == []
