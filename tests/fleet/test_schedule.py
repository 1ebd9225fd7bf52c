"""Plans of traffic that drifts: a placement for each period, few moves between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.fleet import FleetSchedule, Gpus, Wishes, plan_schedule, routing_numbers, split_requests
from loratwin.fleet.schedule import half_variation, parse_moves
from loratwin.fleet.schedule_text import fleet_schedule_json, fleet_schedule_lines, num_servers_text
from loratwin.metrics import starvation
from loratwin.simulate import simulate
from loratwin.workload import AdapterGroup, WorkloadSpec, draw
from loratwin.workload.arrivals import ClientRates
from loratwin.workload.hours import part_of
from tests.plan.small import LENGTHS, profile

LIMITS: dict[str, Any] = {"slots": [8], "max_num_seqs": 256, "max_model_len": 4096, "seeds": (0,)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clients")


def workload(folder: Path, late: float = 1.0) -> WorkloadSpec:
    """Twelve customers in two minutes; in the second the small ones ask for most, all `late` times as often."""
    path = folder / f"clients-{late:g}.csv"
    shares = 1 / np.arange(1, 13)
    minutes = (240 * shares / shares.sum(), late * 240 * shares[::-1] ** 1.3 / (shares**1.3).sum())
    rows = [f"{i},{60 * k},{rate}" for k, rates in enumerate(minutes) for i, rate in enumerate(rates)]
    path.write_text("\n".join(["client,start_s,rate", *rows]))
    group = AdapterGroup(name="a", ranks=8, arrivals=ClientRates(path=path))
    return WorkloadSpec(window_s=120, lengths=LENGTHS, groups=(group,))


def planned(folder: Path, price: float = 0.0, **options: Any) -> FleetSchedule:
    pytest.importorskip("scipy")
    options = {"every_s": 60, "wishes": Wishes(move_price=price), **options}
    return plan_schedule(workload(folder), [Gpus(profile())], **options, **LIMITS)


@pytest.fixture(scope="module")
def ahead(folder: Path) -> FleetSchedule:
    return planned(folder)


def test_each_period_works_with_its_own_traffic_and_the_next(folder: Path, ahead: FleetSchedule) -> None:
    assert [each.text for each in ahead.periods] == ["0:00 to 0:01", "0:01 to 0:02"]
    for of, at_s in ((0, 0.0), (0, 60.0), (1, 60.0)):
        placement = ahead.periods[of].plan.placement
        drawn = draw(part_of(workload(folder), at_s, 60.0))
        parts = split_requests(placement, drawn, routing_numbers(drawn.seed, drawn.num_requests))
        runs = [simulate(part, profile(), server.config) for part, server in zip(parts, placement.servers, strict=True)]
        assert not any(starvation(run).starved for run in runs)
    assert ahead.periods[1].drift > 0.4
    assert np.isnan(ahead.periods[0].drift)


def test_moves_that_cost_something_are_few(folder: Path) -> None:
    free, dear = planned(folder, ahead=False), planned(folder, 10.0, ahead=False)
    assert dear.moves < free.moves
    assert free.periods[0].moves == dear.periods[0].moves == 0
    few = planned(folder, ahead=False, moves_a_day=free.moves - 1)
    assert few.moves_a_day < free.moves


def test_replicas_are_as_small_as_asked_for(folder: Path) -> None:
    fine = planned(folder, ahead=False, wishes=Wishes(replica_share=0.2)).periods[0].plan
    carried = fine.load[fine.placement.adapter] * fine.placement.fraction
    assert carried.max() <= 0.2 * fine.loads.mean() * 1.001 or fine.placement.num_replicas().max() == fine.num_servers
    coarse = planned(folder, ahead=False, wishes=Wishes(replica_share=1.0)).periods[0].plan
    assert len(fine.placement.adapter) > len(coarse.placement.adapter)


def test_a_period_that_needs_more_is_named(folder: Path) -> None:
    four = [Gpus(profile(), count=4)]
    with pytest.raises(InputError, match=r"^0:01 to 0:02: 4 servers .* do not suffice"):
        plan_schedule(workload(folder, late=3.0), four, every_s=60, ahead=False, **LIMITS)


def test_what_makes_no_schedule_is_refused(folder: Path) -> None:
    for options, message in (
        ({"every_s": 120.0}, "less than the window of 120 s"),
        ({"moves_a_day": -1}, "moves = -1"),
        ({"wishes": Wishes(most_moves=1)}, "moves_a_day"),
        ({"wishes": Wishes(move_price=-1.0)}, "move_price = -1"),
        ({"wishes": Wishes(replica_share=2.0)}, "replica_share = 2"),
    ):
        with pytest.raises(InputError, match=message):
            planned(folder, **options)


def test_moves_are_read_as_a_number_or_a_part() -> None:
    assert parse_moves("10", 250) == 10
    assert parse_moves("10%", 255) == 25
    for text in ("ten", "-1", "1.5", "101%", "%"):
        with pytest.raises(InputError, match="write a number of adapters"):
            parse_moves(text, 100)


def test_half_the_variation_is_of_shares() -> None:
    assert half_variation(np.array([1.0, 1.0]), np.array([20.0, 20.0])) == 0
    assert half_variation(np.array([1.0, 0.0]), np.array([0.0, 3.0])) == 1
    assert np.isnan(half_variation(np.zeros(2), np.ones(2)))


def test_a_schedule_is_said_in_a_table_and_as_data(ahead: FleetSchedule) -> None:
    lines = fleet_schedule_lines(ahead)
    assert any(line.startswith("0:01 to 0:02") for line in lines)
    assert max(map(len, lines)) <= 110
    data = fleet_schedule_json(ahead)
    assert data["kind"] == "fleet schedule" and len(data["periods"]) == 2
    assert data["periods"][0]["drift"] is None
    assert data["periods"][1]["plan"]["placement"]["servers"]


def test_the_number_of_servers_is_a_range_only_where_it_changes() -> None:
    assert num_servers_text([3, 3]) == "3"
    assert num_servers_text([4, 2, 3]) == "2 to 4"
