"""The twin as judge: no more simulations than an answer needs, and the same answers."""

from __future__ import annotations

import pytest

from loratwin.fleet.judge import Judge, Oracle, Server, Task
from loratwin.fleet.problem import traffic_of
from loratwin.fleet.traffic import Share
from loratwin.plan.limits import FARTHEST, STEP
from loratwin.plan.question import settings_for
from loratwin.plan.trial import Result, Trial
from loratwin.simulate.workers import Workers
from loratwin.workload import AdapterGroup, WorkloadSpec, draw
from tests.plan.small import LENGTHS, profile

NUMBER = 12


@pytest.fixture
def judge() -> Judge:
    """Of twelve adapters that ask for as much as each other."""
    group = AdapterGroup(name="a", count=NUMBER, rate=10.0, ranks=8)
    traffic = traffic_of((draw(WorkloadSpec(window_s=20, lengths=LENGTHS, groups=(group,))),))
    settings = settings_for(
        profile(), objective="throughput", slo=None, headroom=0.2, confidence=None, slots=[1, 2, 4], advised=None,
        max_num_seqs=[64, 256], max_num_batched_tokens=None, max_model_len=4096, gpu_memory_utilization=None, others={},
        extrapolate=False,
    )  # fmt: skip
    oracle = Oracle(traffic, (profile(),))
    return Judge(oracle, [settings], Workers[Task, Result](oracle.measure, 1), None)


def server(*adapters: int) -> Server:
    return Server(0, tuple(Share(a, 0.0, 1.0) for a in adapters))


def test_of_many_servers_one_configuration_is_tried_of_each(judge: Judge) -> None:
    servers = [server(a, a + 1) for a in range(0, NUMBER, 2)]
    configs = judge.working(servers)
    assert None not in configs and judge.num_simulated == len(servers)
    assert judge.working(servers) == configs and judge.num_simulated == len(servers)


def test_a_server_without_adapters_says_nothing_of_others(judge: Judge) -> None:
    empty = Server(0, ())
    assert [config and config.max_loras for config in judge.working([empty])] == [0]
    assert judge.tune([empty])
    (config,) = judge.working([server(0, 1)])
    assert config is not None and config.max_loras > 0


def test_a_few_servers_are_tried_with_several_at_a_time_and_take_the_first(judge: Judge) -> None:
    (config,) = judge.working([server(0, 1)])
    assert config is not None and 1 < judge.num_simulated <= 4
    others = Judge(judge.oracle, judge.settings, judge.workers)
    assert others.working([server(0, 1), *(server(a) for a in range(2, NUMBER))])[0] == config


def test_a_quick_look_says_nothing_of_what_it_has_not_tried(judge: Judge) -> None:
    crowd = server(*range(NUMBER))
    assert judge.working([crowd], most=1) == [None]
    assert judge.num_simulated == 1
    assert judge.working([crowd]) == [None]
    tried = judge.num_simulated
    assert tried > 1
    assert judge.working([crowd], most=1) == judge.working([crowd]) == [None] and judge.num_simulated == tried


def test_what_is_known_with_all_figures_is_not_asked_for_its_verdict(judge: Judge) -> None:
    asked = server(0, 1)
    (config,) = judge.working([asked])
    assert config is not None
    judge.judged([asked], [config])
    before = judge.num_simulated
    (verdict,) = judge.simulate([Task(asked, Trial(config, 2, verdict_only=True))], "again")
    assert verdict.works and judge.num_simulated == before


def test_slots_are_chosen_by_what_works_for_a_few(judge: Judge) -> None:
    """Of numbers of slots that do as well the middle one; it is tried first from then on."""
    few = [server(a, a + 1, a + 2, a + 3) for a in range(3)]
    assert judge.tune(few)

    def all_work(slots: int) -> bool:
        configs = [judge.finder(each).config(4, slots, 256) for each in few]
        return all(judge.works(each) for each in judge.judged(few, configs))

    as_good = [slots for slots in (1, 2, 4) if all_work(slots)]
    config, _ = judge.working([server(4, 5, 6, 7), server(8, 9)])
    assert config is not None and config.max_loras == as_good[len(as_good) // 2]
    assert not judge.tune([server(*range(NUMBER))])


def test_more_slots_are_tried_where_single_adapters_starve(judge: Judge) -> None:
    asked = server(0, 1, 2)
    (config,) = judge.working([asked])
    assert config is not None
    roomier = judge.with_all_slots(asked, config.replace(max_loras=1))
    assert roomier is not None and (roomier.max_loras, roomier.max_cpu_loras) == (3, 3)
    assert judge.with_all_slots(asked, roomier) is None
    crowd = judge.with_all_slots(server(*range(NUMBER)), config.replace(max_loras=1))
    assert crowd is not None and crowd.max_loras == 4  # no more than may be tried


def test_margins_are_the_last_that_work_and_no_less_than_the_headroom(judge: Judge) -> None:
    servers = [server(*range(a, a + 4)) for a in range(NUMBER - 4)]
    configs = [config for config in judge.working(servers) if config is not None]
    candidates = judge.judged(servers, configs)
    before = judge.num_simulated
    found = judge.with_margins(servers, candidates)
    assert (judge.num_simulated - before) / len(servers) < 8  # of 33 powers
    for asked, config, candidate in zip(servers, configs, found, strict=True):
        assert candidate.margin >= 1.2
        if candidate.margin < STEP**FARTHEST:
            steps = [Trial(config, 4, factor=candidate.margin * step, verdict_only=True) for step in (1.0, STEP)]
            works, beyond = judge.simulate([Task(asked, trial) for trial in steps], "check")
            assert works.works and not beyond.works
