"""Other ways of placing: what each does with hot adapters, and that all are judged alike."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.fleet.baselines import DEALERS, dlora, loraserve, zig_zag
from loratwin.fleet.comparing import compare_placements
from loratwin.fleet.gpus import Gpus
from loratwin.workload import AdapterGroup, WorkloadSpec, Zipf
from tests.plan.small import LENGTHS, profile

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


def test_the_greedy_places_no_hot_adapter_and_ours_splits_it() -> None:
    group = AdapterGroup(name="a", count=30, total_rate=250, popularity=Zipf(exponent=2.0), ranks=8)
    spec = WorkloadSpec(window_s=120, lengths=LENGTHS, groups=(group,))
    least, rows = compare_placements(spec, Gpus(profile()))
    needed = {row.name: row.servers for row in rows}
    assert needed["greedy"] is None and needed["whole adapters"] is None
    assert least <= needed["even, hot split"] <= least + 1
    assert all(row.servers is None or row.servers >= needed["even, hot split"] for row in rows)


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
