"""Other ways of placing: what each does with hot adapters, and that all are judged alike."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratwin.fleet.baselines import DEALERS, dlora, loraserve, zig_zag
from loratwin.fleet.comparing import OURS, compare_placements
from loratwin.fleet.contenders import backbone_tokens_per_s, first_fit, first_fit_homes, max_backbone
from loratwin.fleet.gpus import Gpus
from loratwin.fleet.judge import Judge, Oracle, Task
from loratwin.fleet.packing import Packed
from loratwin.fleet.problem import traffic_of
from loratwin.plan.question import settings_for
from loratwin.plan.trial import Result
from loratwin.simulate.workers import Workers
from loratwin.workload import AdapterGroup, WorkloadSpec, Zipf, draw, save_spec
from tests.cli.program import loratwin
from tests.plan.small import LENGTHS, profile
from tests.slow import slow

LOAD = np.append(np.arange(1, 41, dtype=float) ** -1.2, 0.3)
RANKS = np.resize(np.array([8, 16], np.int32), 40)
NAMES = [f"a-{i}" for i in range(40)]


@pytest.mark.parametrize("name", DEALERS)
def test_everything_is_placed(name: str) -> None:
    found = DEALERS[name](LOAD, RANKS, NAMES, 4)
    sums = np.bincount(found.adapter + 1, weights=found.fraction)
    assert sums == pytest.approx(np.ones(41))
    replicas = np.bincount(found.adapter[found.adapter >= 0])
    if name in ("random", "whole adapters", "hash, 1 replica"):
        assert replicas.max() == 1
    if name == "hash, 2 replicas":
        assert set(replicas.tolist()) == {2}
    if name == "dLoRA":
        assert replicas.sum() == 43 and replicas[0] == replicas.max() == 3  # the hottest is missed most


def test_loraserve_levels_the_servers_and_separates_ranks() -> None:
    found = loraserve(LOAD, RANKS, NAMES, 6)
    loads = found.loads(np.append(LOAD[:-1], 0.0), 6)
    assert loads.max() / loads.mean() < 1.2  # a rank has whole servers
    mixed = [j for j in range(6) if len({int(RANKS[a]) for a, k, part in found.rows() if k == j and a >= 0}) > 1]
    assert len(mixed) <= 2


def test_zig_zag_takes_largest_and_smallest_in_turn() -> None:
    load = np.array([1.0, 4.0, 3.0, 2.0, 9.0, 0.0])
    assert zig_zag(np.array([8, 8, 8, 8, 16]), load) == [4, 1, 0, 2, 3]


@slow
def test_the_greedy_places_no_hot_adapter_and_ours_splits_it() -> None:
    group = AdapterGroup(name="a", count=16, total_rate=250, popularity=Zipf(exponent=2.0), ranks=8)
    spec = WorkloadSpec(window_s=40, lengths=LENGTHS, groups=(group,))
    bound, rows = compare_placements(spec, Gpus(profile()))
    needed = {row.name: row.servers for row in rows}
    assert len(needed) == len(DEALERS) + 5 and rows[0].name == OURS
    for name in ("greedy", "first fit", "whole adapters", "MaxBackbone"):
        assert needed[name] is None
    assert needed[OURS] is not None and bound.gpus <= needed[OURS] <= bound.gpus + 1
    assert all(row.servers is None or row.servers >= needed[OURS] for row in rows)


def test_dlora_gives_each_replica_to_the_adapter_that_misses_one_most() -> None:
    homes: list[list[int]] = [[] for _ in NAMES]
    held = [0] * 7
    for _ in range(7 + len(NAMES) - 1):
        open_ = [a for a in range(len(NAMES)) if len(homes[a]) < 7]
        a = min(open_, key=lambda a: (len(homes[a]) > 0, len(homes[a]) / LOAD[a], a))
        j = min((j for j in range(7) if j not in homes[a]), key=lambda j: (held[j], j))
        homes[a].append(j)
        held[j] += 1
    found = [(a, j) for a, j, _ in dlora(np.append(LOAD[:-1], 0.0), RANKS, NAMES, 7).rows()]
    assert found == [(a, j) for a, own in enumerate(homes) for j in sorted(own)]


@cache
def judge() -> Judge:
    """Of thirty adapters, two of which ask for much."""
    group = AdapterGroup(name="a", count=30, total_rate=200, popularity=Zipf(exponent=0.9), ranks=8)
    traffic = traffic_of((draw(WorkloadSpec(window_s=60, lengths=LENGTHS, groups=(group,))),))
    settings = settings_for(
        profile(), objective="throughput", slo=None, headroom=0.2, confidence=None, slots=[8, 16], advised=None,
        max_num_seqs=256, max_num_batched_tokens=None, max_model_len=4096, gpu_memory_utilization=None, others={},
        extrapolate=False,
    )  # fmt: skip
    oracle = Oracle(traffic, (profile(),))
    return Judge(oracle, [settings], Workers[Task, Result](oracle.measure, 1), None)


def homes_of(packed: Packed | None) -> list[list[int]]:
    assert packed is not None
    return [[a for a, k, _ in packed.entries.rows() if k == j] for j in range(len(packed.kinds))]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(30, 120), st.integers(2, 12))
def test_first_fit_is_what_its_name_says(loads: list[int], capacity: int, most_held: int) -> None:
    """Each adapter, the largest first, on the first server that takes it beside those there."""
    order = sorted(range(len(loads)), key=lambda a: -loads[a])

    def fits(own: Sequence[int]) -> bool:
        return sum(loads[a] for a in own) <= capacity and len(own) <= most_held

    homes: list[list[int]] = []
    for a in order:
        first = next((own for own in homes if fits([*own, a])), None)
        if first is None:
            homes.append(first := [])
        first.append(a)
    found = first_fit_homes(order, fits, len(loads))
    assert found == (homes if fits(order[:1]) else None)


def test_first_fit_asks_the_twin() -> None:
    load = judge().oracle.traffic.tokens_per_s()
    own = homes_of(first_fit(judge(), load, 9))
    assert len(own) > 2 and sorted(a for each in own for a in each) == list(range(30))
    assert own[0][:3] == [0, 1, 2]  # the first is filled before there is a second
    assert first_fit(judge(), load, len(own) - 1) is None


def test_maxbackbone_fills_each_server_up_to_what_the_llm_alone_can_do() -> None:
    load = judge().oracle.traffic.tokens_per_s()
    capacity = backbone_tokens_per_s(judge(), 3)
    assert 0.7 * load.sum() / 2 < capacity < 3 * load.sum()
    for share in (0.3, 0.5):
        own = homes_of(max_backbone(judge(), load, 3, 20, share))
        assert [a for each in own for a in each] == list(range(30))  # as listed
        for each, later in pairwise(own):
            assert load[each].sum() <= share * capacity < load[each].sum() + load[later[0]]
    assert max_backbone(judge(), load, 3, 20) is None  # with adapters no server does as much
    assert max_backbone(judge(), load, 3, 20, share=load.max() / capacity / 2) is None  # one alone is too much


def test_the_command_shows_all_methods(tmp_path: Path) -> None:
    group = AdapterGroup(name="a", count=6, total_rate=20, ranks=8)
    save_spec(WorkloadSpec(window_s=30, lengths=LENGTHS, groups=(group,)), tmp_path / "w.yaml")
    options = ("--profile", profile().name, "--json", "all.json", "--csv", "tables")
    done = loratwin("fleet", "compare", "w.yaml", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "all.json").read_text())
    assert found["bound"]["gpus"] == 1
    names = [each["name"] for each in found["methods"]]
    assert names[0] == found["ours"] and set(DEALERS) < set(names) and len(names) == len(DEALERS) + 5
    assert all(each["num_servers"] == 1 for each in found["methods"])
    rows = list(csv.DictReader((tmp_path / "tables" / "placements.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == names
    assert float(rows[0]["margin"]) == pytest.approx(found["methods"][0]["margin"], rel=1e-4)
    assert all(name in done.stdout for name in names)
    wrong = loratwin("fleet", "compare", "w.yaml", "--profile", profile().name, "--slo", "ttft_p99=1ms", cwd=tmp_path)
    assert wrong.returncode == 2 and "ttft_p99=1ms is out of reach" in wrong.stderr
