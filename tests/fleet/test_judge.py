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


def test_margins_are_the_last_that_work_and_no_less_than_the_headroom(judge: Judge) -> None:
    servers = [server(*range(a, a + 3)) for a in range(NUMBER - 3)]
    configs = [config for config in judge.working(servers) if config is not None]
    candidates = judge.judged(servers, configs)
    before = judge.num_simulated
    found = judge.with_margins(servers, candidates)
    assert (judge.num_simulated - before) / len(servers) < 5  # of 33 powers
    for asked, config, candidate in zip(servers, configs, found, strict=True):
        assert candidate.margin >= 1.2
        if candidate.margin < STEP**FARTHEST:
            steps = [Trial(config, 3, factor=candidate.margin * step, verdict_only=True) for step in (1.0, STEP)]
            works, beyond = judge.simulate([Task(asked, trial) for trial in steps], "check")
            assert works.works and not beyond.works
