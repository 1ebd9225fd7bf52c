"""Whole plans on small workloads: properties, not numbers, since profiles change."""

from __future__ import annotations

import dataclasses
import pickle
import sys

import pytest

from loratwin.errors import InputError, UnknownNameError
from loratwin.learn import advice_text, predict
from loratwin.metrics import starvation
from loratwin.plan import Candidate, Objective, Plan, choose, plan, plan_text, verdict
from loratwin.plan.grid import spread_order
from loratwin.plan.plan import _for_fewer
from loratwin.plan.search import Finder, Settings
from loratwin.plan.trial import Bench, Trial, longest_request
from loratwin.records import EngineConfig
from loratwin.simulate import workers
from loratwin.simulate.workers import Workers
from loratwin.workload import AdapterGroup, BaseTraffic, Equal, WorkloadSpec, draw
from tests.plan.candidates import candidate
from tests.plan.small import LENGTHS, impossible, overloaded, profile, served, spec
from tests.slow import slow


def test_the_engine_of_the_profile_says_how_much_memory_is_filled() -> None:
    for engine, share in (("vllm-0.8.5", 0.9), ("vllm-0.32.0", 0.92)):
        of_engine = profile().model_copy(update={"engine": engine})
        found = plan(spec(), of_engine, seeds=(0,), slots=[8], max_num_seqs=64, max_model_len=4096)
        assert found.best is not None and found.best.config.gpu_memory_utilization == share


def test_all_adapters_are_served_by_a_configuration_that_works() -> None:
    found = served()
    best = found.best
    assert found.serves_all
    assert best is not None
    assert best.works()
    assert len(found.served) == best.served_adapters == 24
    assert best.config.max_lora_rank == 16  # the highest is 16
    assert best.config.max_cpu_loras == 24
    assert best.num_seeds == 2
    assert found.run is not None
    assert not starvation(found.run).starved


def test_the_best_is_what_the_rule_chooses() -> None:
    found = served()
    assert found.best is choose(found.alternatives).best
    assert found.best in found.alternatives
    assert set(found.choice.near_slots) <= {each.slots for each in found.alternatives}


def test_more_slots_leave_fewer_kv_tokens() -> None:
    tokens = [each.kv_tokens for each in served().table]
    slots = [each.slots for each in served().table]
    assert slots == sorted(slots)
    assert tokens == sorted(tokens, reverse=True)


def test_working_configurations_have_a_margin_of_one_or_more_and_others_none() -> None:
    for each in (*served().alternatives, *overloaded().alternatives):
        assert each.works() and each.margin >= 1
    for each in impossible().alternatives:
        assert not each.works() and not each.margin >= 1


def test_an_slo_can_be_asked_of_every_adapter() -> None:
    """Hundreds of quick requests of the busy hide the few of one that waits for a slot."""
    busy = AdapterGroup(name="busy", count=2, total_rate=20.0, popularity=Equal(), ranks=8)
    rare = AdapterGroup(name="rare", count=30, total_rate=1.5, popularity=Equal(), ranks=8)
    crowd = WorkloadSpec(window_s=300.0, lengths=LENGTHS, groups=(busy, rare), slo="ttft_p90=150ms")
    options = {"seeds": (0,), "slots": [3, 4, 32], "max_num_seqs": 256, "max_model_len": 4096, "headroom": 0.0}
    loose, strict = (plan(crowd, profile(), slo_for=reach, **options) for reach in ("all", "adapters"))  # type: ignore[arg-type]
    assert loose.slo == strict.slo is not None and loose.slo_for == "all"
    hidden = [each for each in loose.alternatives if each.works(loose.slo)]
    found = {each.slots: each for each in strict.alternatives}
    told = [each for each in hidden if found[each.slots].missing]
    assert told and not any(found[each.slots].works(strict.slo) for each in told)
    assert all(name.startswith("rare") for name in found[told[0].slots].missing)
    assert strict.best is not None and strict.best.slots == 32
    assert strict.customers is not None and strict.customers.missing == ()


def test_the_workload_names_its_own_targets() -> None:
    named = spec().model_copy(update={"slo": "ttft<2s:95%", "slo_for": "groups"})
    found = plan(named, profile(), seeds=(0,), slots=[24], max_num_seqs=256, max_model_len=4096)
    assert str(found.slo) == "ttft<2s:95%" and found.slo_for == "groups"
    told = plan(named, profile(), slo="ttft_p99=9s", seeds=(0,), slots=[24], max_num_seqs=256, max_model_len=4096)
    assert str(told.slo) == "ttft_p99=9s"
    with pytest.raises(InputError, match="an SLO for adapters is asked for, but none is given"):
        plan(spec(), profile(), slo_for="adapters")


def test_the_chosen_has_the_largest_margin_of_what_is_equal_in_the_objective() -> None:
    found = served()
    assert found.best is not None
    most = max(each.margin for each in found.choice.near)
    assert found.best.margin - 1 >= 0.9 * (most - 1)


def test_a_plan_leaves_what_was_measured_only_when_told() -> None:
    """On a profile that was measured at 2 to 6 slots and 8 to 32 sequences."""
    domain = profile().domain.model_copy(update={"max_loras": (2, 6), "max_num_seqs": (8, 32)})
    narrow = profile().model_copy(update={"domain": domain})
    inside, anywhere = (
        plan(spec(), narrow, seeds=(0,), max_model_len=4096, extrapolate=beyond) for beyond in (False, True)
    )
    tried = [(each.slots, each.config.max_num_seqs) for each in inside.alternatives]
    assert tried and all(2 <= slots <= 6 and sequences <= 32 for slots, sequences in tried)
    assert "extrapolated" not in verdict(inside)
    assert any(each.slots > 6 for each in anywhere.alternatives)
    assert anywhere.best is not None and "extrapolated: max_" in verdict(anywhere)


def test_headroom_is_a_constraint() -> None:
    """What cannot grow by as much as was asked is not served, and the plan says what could."""
    free = plan(spec(60.0), profile(), seeds=(0,), slots=[24], max_num_seqs=256, max_model_len=4096, headroom=0)
    assert free.serves_all and free.best is not None and 1 <= free.best.margin < 3
    wanted = 1.1 * free.best.margin - 1
    found = plan(spec(60.0), profile(), seeds=(0,), slots=[24], max_num_seqs=256, max_model_len=4096, headroom=wanted)
    assert 0 < len(found.served) < 24
    assert found.best is not None and found.best.margin >= 1 + wanted
    assert found.shortfall is not None and found.shortfall.closest is not None
    assert found.shortfall.closest.keeps_up() and found.shortfall.closest.margin == pytest.approx(free.best.margin)


def test_the_margin_of_a_plan_has_an_interval() -> None:
    found = served()
    assert found.best is not None and found.margin_interval is not None
    assert found.margin_interval.low < found.best.margin * 1.03 < found.margin_interval.high * 1.1
    assert found.margin_interval.shorter_window_s == 75.0


def test_when_not_all_can_be_served_some_are() -> None:
    found = overloaded()
    assert not found.serves_all
    assert 0 < len(found.served) < 24
    assert found.best is not None
    assert found.best.works()
    assert found.best.slots <= len(found.served)
    assert found.shortfall is not None
    assert not any(each.works() for each in found.shortfall.candidates)
    assert {each.served_adapters for each in found.shortfall.candidates} == {24}
    assert found.shortfall.without_memory_limit is not None
    assert found.shortfall.without_memory_limit.starved


def test_one_adapter_more_would_starve() -> None:
    found = overloaded()
    workload = draw(spec(400.0), 0)
    one_more = sorted(spread_order(workload.adapters)[: len(found.served) + 1])
    assert set(found.served) < set(one_more)
    more = plan(workload.take_adapters(one_more), profile(), slots=[4, 8, 16], max_num_seqs=256, max_model_len=4096)
    assert not more.serves_all


class Lucky:
    """A finder whose first seed is luckier than the others: it finds 200 adapters, of which only 190 work."""

    settings = Settings()

    def most_adapters(self) -> int:
        return 200

    def alternatives(self, num_adapters: int) -> list[Candidate]:
        return [candidate(8, starved=num_adapters > 190)]


def test_fewer_adapters_are_taken_until_all_seeds_work() -> None:
    num_adapters, found = _for_fewer(Lucky())  # type: ignore[arg-type]
    assert 187 <= num_adapters <= 190
    assert found[0].works()


def test_none_works_is_a_result() -> None:
    found = impossible()
    assert found.best is None
    assert found.served == ()
    assert found.run is None
    assert found.shown is not None
    assert {each.served_adapters for each in found.alternatives} == {24}


def test_a_server_that_does_not_start_is_a_result() -> None:
    found = plan(spec(), profile(), seeds=(0,), gpu_memory_utilization=0.2, max_model_len=4096)
    assert found.best is None
    assert not any(each.starts for each in found.alternatives)
    assert all(each.why_not for each in found.alternatives)
    assert found.shortfall is not None
    assert found.shortfall.closest is None


def test_a_lack_of_memory_is_told_from_a_lack_of_computing() -> None:
    """Ten blocks of KV memory; the GPU itself has time enough."""
    workload = draw(spec(40.0), 0)
    tight = Bench((workload,), spread_order(workload.adapters), profile())
    config = EngineConfig(max_loras=24, max_model_len=4096)
    assert tight.measure(Trial(config, 24, kv_tokens=300)).starved
    finder = Finder(tight, Settings(max_model_len=4096), Workers(tight.measure))
    assert not finder.with_unlimited_memory(24).starved


def test_longer_context_leaves_room_for_fewer_slots() -> None:
    def starting(max_model_len: int) -> set[int]:
        config = {"slots": [8, 24], "max_num_seqs": 256, "gpu_memory_utilization": 0.35}
        found = plan(spec(), profile(), seeds=(0,), max_model_len=max_model_len, **config)  # type: ignore[arg-type]
        return {each.slots for each in found.alternatives if each.starts}

    assert starting(131_072) < starting(4096)


def test_an_slo_is_kept() -> None:
    free = served()
    assert free.best is not None
    tail_s = free.best.mean("ttft_p99_ms") / 1e3
    kept = plan(spec(), profile(), slo=f"ttft_p99={0.97 * tail_s}s", seeds=(0, 1), max_model_len=4096)
    if kept.best is not None and kept.serves_all:
        assert kept.best.slo_s["ttft_p99"].mean <= 0.97 * tail_s
    generous = plan(spec(), profile(), slo="ttft_p99=60s", seeds=(0, 1), max_num_seqs=[64, 256], max_model_len=4096)
    assert generous.best is not None
    assert generous.best.config == free.best.config


def test_least_latency_has_least_latency() -> None:
    found = plan(spec(), profile(), objective="latency", seeds=(0,), max_num_seqs=256, max_model_len=4096)
    assert found.best is not None
    least = min(each.latency_ms for each in found.alternatives if each.works())
    assert found.best.latency_ms <= 1.01 * least


def figures(found: Plan) -> list[object]:
    """Everything that is compared between two plans."""
    alternatives = [dataclasses.asdict(each) for each in found.alternatives]
    return [found.served, found.choice.near_slots, repr(alternatives), found.num_simulated]


@slow
def test_the_number_of_processes_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SPAWN_S", 0.0)
    one, two = (
        plan(spec(400.0), profile(), seeds=(0, 1), slots=[4, 8], max_num_seqs=256, processes=n, max_model_len=4096)
        for n in (1, 2)
    )
    assert figures(one) == figures(two)


def test_progress_never_goes_back() -> None:
    seen: list[tuple[int, int, str]] = []
    found = plan(spec(), profile(), seeds=(0,), slots=[8], progress=lambda *what: seen.append(what), max_model_len=4096)
    done = [count for count, _, _ in seen]
    assert done == sorted(done)
    assert all(count <= total for count, total, _ in seen)
    assert done[-1] == found.num_simulated


def test_a_drawn_workload_can_be_planned() -> None:
    found = plan(draw(spec(), 7), profile(), slots=[8], max_num_seqs=256, max_model_len=4096)
    assert found.seeds == (7,)
    assert found.longest_request == longest_request(draw(spec(), 7)) == 150


def test_a_plan_can_be_sent_to_another_process() -> None:
    assert figures(pickle.loads(pickle.dumps(impossible()))) == figures(impossible())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slo": "fast"}, "no limit; an SLO looks like"),
        ({"headroom": -0.1}, "headroom = -10 %, but it must be from 0 to 376 %"),
        ({"confidence": 1.0}, r"confidence = 1, but it must be above 0 and below 1 \(nothing is certain\); 0.9 asks"),
        ({"confidence": 90.0}, "confidence = 90, but it must be above 0 and below 1"),
        ({"headroom": float("nan")}, "headroom = nan %, but it must be"),
        ({"slots": [0]}, "slots: 0, but it must be at least 1"),
        ({"slots": []}, "slots: the list is empty"),
        ({"max_num_seqs": -1}, "max_num_seqs: -1, but it must be at least 1"),
        ({"seeds": []}, "at least one is needed"),
        ({"max_num_seqs": 4096}, "max_num_batched_tokens = 2048, but it must be at least max_num_seqs = 4096"),
        ({"gpu_memory_utilization": 1.2}, "gpu_memory_utilization = 1.2"),
        ({"max_model_len": 99}, "every prompt is refused: the shortest has 100 tokens"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(spec(), profile(), **options)  # type: ignore[arg-type]


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown objective 'cheap'"):
        plan(spec(), profile(), objective="cheap")  # type: ignore[arg-type]


def test_nothing_to_plan_is_refused() -> None:
    base = WorkloadSpec(window_s=60, lengths=LENGTHS, base=BaseTraffic(rate=1.0))
    with pytest.raises(InputError, match="no adapters"):
        plan(base, profile())
    with pytest.raises(InputError, match="no requests"):
        plan(spec(1e-9, window_s=1), profile())


def test_a_fast_plan_begins_with_what_the_learned_model_says() -> None:
    """One seed, the slots of the model and half and twice as many; the text begins with what it predicted."""
    known = profile()
    found = plan(spec(), known, fast=True, headroom=0.0)
    advice = predict(draw(spec(), 0), known)
    assert found.predicted == advice and found.seeds == (0,)
    around = {
        min(24, count) for count in (advice.slots_to_check // 2, advice.slots_to_check, 2 * advice.slots_to_check)
    }
    assert {candidate.slots for candidate in found.alternatives} == around
    assert plan_text(found).startswith(f"Predicted by the learned model:\n{advice_text(advice)}\n\n{verdict(found)}")
    fixed = plan(spec(), known, fast=True, slots=[4], max_num_seqs=64, headroom=0.0)
    assert {(each.slots, each.config.max_num_seqs) for each in fixed.alternatives} == {(4, 64)}


@pytest.mark.parametrize("objective", ["throughput", "latency"])
def test_a_fast_plan_and_a_search_agree_on_the_rule(objective: Objective) -> None:
    """Whatever the fast one tried, the best by the rule is chosen: equal in the objective, and no smaller margin."""
    fast, searched = (
        plan(spec(), profile(), objective=objective, fast=fast, seeds=(0,), max_model_len=4096)
        for fast in (True, False)
    )
    assert fast.best is not None and searched.best is not None
    assert fast.best.config == choose(fast.alternatives, objective).best.config
    assert fast.best.throughput >= 0.99 * searched.best.throughput
    assert fast.best.margin - 1 >= 0.9 * (searched.best.margin - 1)


def test_a_fast_plan_keeps_the_slo_where_a_search_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The learned model knows of no SLO: where its slots miss it, others are searched."""
    advice = dataclasses.replace(predict(draw(spec(), 0), profile()), slots_to_check=1)
    monkeypatch.setattr(sys.modules["loratwin.plan.plan"], "predict", lambda *given, **options: advice)
    fast = plan(spec(), profile(), slo="ttft_p99=500ms", fast=True, max_num_seqs=256, max_model_len=4096)
    assert fast.serves_all and fast.best is not None and fast.best.slots > 2
    assert not fast.best.misses_slo(fast.slo)
    without = plan(spec(), profile(), slots=[1, 2], slo="ttft_p99=500ms", max_num_seqs=256, max_model_len=4096)
    assert not without.serves_all
