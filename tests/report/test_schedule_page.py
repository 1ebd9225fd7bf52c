"""The page of a schedule: whole, self-contained, the same every time, and what changes when."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest

from loratwin.fleet import FleetSchedule, Placement
from loratwin.fleet.plan_result import FleetPlan
from loratwin.fleet.schedule import Period
from loratwin.fleet.schedule_text import schedule_verdict_lines
from loratwin.report.schedule_page import NAMED_PERIODS, NAMED_SERVERS, schedule_chart, schedule_page
from loratwin.report.schedule_page import write_schedule_tables as write_tables
from loratwin.report.schedule_tables import schedule_tables
from loratwin.report.tables import table_csv
from tests.plan.small import NASTY
from tests.report.page import assert_self_contained
from tests.report.test_fleet_page import planned


def moved() -> FleetPlan:
    """The plan with one adapter on the other server."""
    found = planned()
    held = found.placement
    where: dict[str, dict[str, float]] = {name: {} for name in found.adapters}
    for a, j, part in zip(held.adapter.tolist(), held.server.tolist(), held.fraction.tolist(), strict=True):
        where[found.adapters[a]][f"gpu-{j}"] = part
    (home,) = where["a-3"]
    where["a-3"] = {"gpu-1" if home == "gpu-0" else "gpu-0": 1.0}
    return replace(found, placement=Placement.of(held.servers, where))


def scheduled(periods: int = 3) -> FleetSchedule:
    """Hours with the same plan, but that an adapter has moved in the last."""
    hours = [(3600.0 * i, 3600.0 * (i + 1)) for i in range(periods)]
    first = [Period(begin, end, planned(), 0, nan if begin == 0 else 0.1) for begin, end in hours[:-1]]
    return FleetSchedule((*first, Period(*hours[-1], moved(), 1, 0.25)), True, 4, 0.5, "<mine>")


def rows_of(name: str, schedule: FleetSchedule) -> list[dict[str, str]]:
    (table,) = (each for each in schedule_tables(schedule) if each.name == name)
    return list(csv.DictReader(io.StringIO(table_csv(table))))


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    text = schedule_page(scheduled())
    page = assert_self_contained(text, NASTY)
    assert schedule_page(scheduled()) == text
    for line in schedule_verdict_lines(scheduled()):
        assert line in page.text
    assert "Price" in page.text


def test_the_price_is_that_of_all_hours_where_it_is_known() -> None:
    found = scheduled()
    assert found.price == pytest.approx(2.0 * planned().num_servers * 3)
    held = planned().placement
    free = replace(held, servers=tuple(replace(each, price_per_h=None) for each in held.servers))
    unpriced = replace(found.periods[0], plan=replace(planned(), placement=free))
    assert replace(found, periods=(unpriced, *found.periods[1:])).price is None


def test_tables_say_who_carries_what_when_and_who_moves() -> None:
    found = scheduled()
    periods = rows_of("periods", found)
    assert [row["period"] for row in periods] == ["0:00 to 1:00", "1:00 to 2:00", "2:00 to 3:00"]
    assert [row["moves"] for row in periods] == ["0", "0", "1"] and periods[0]["drift"] == ""
    servers = rows_of("servers", found)
    assert len(servers) == 3 * planned().num_servers
    in_first = sum(float(row["tokens_per_s"]) for row in servers if row["period"] == "0:00 to 1:00")
    assert in_first == pytest.approx(planned().load.sum(), rel=1e-4)
    homes = rows_of("adapters", found)
    assert homes[0]["adapter"] == "hot" and len(homes) == len(planned().adapters) + 1
    before, after = (row for row in homes if row["adapter"] == "a-3")
    assert (before["since"], after["since"]) == ("0:00", "2:00") and before["servers"] != after["servers"]
    assert len(rows_of("what-if", found)) == 3 * len(planned().stress)


def test_few_servers_are_lines_and_many_are_points() -> None:
    found = scheduled()
    load = schedule_chart(found).panels[0]
    assert [each.name for each in load.series] == [server.name for server in planned().servers]
    assert list(load.series[0].y) == [planned().servers[0].tokens_per_s] * 3
    assert list(load.ticks) == ["0:00", "1:00", "2:00"]
    crowd = replace(planned(), servers=planned().servers * NAMED_SERVERS)
    many = replace(found, periods=tuple(replace(each, plan=crowd) for each in found.periods))
    points, mean = schedule_chart(many).panels[0].series
    assert points.look == "points" and len(points.y) == 3 * len(crowd.servers)
    assert list(mean.y) == pytest.approx([crowd.loads.mean()] * 3)
    days = schedule_chart(scheduled(NAMED_PERIODS + 1)).panels[1]
    assert not days.ticks and list(days.series[0].x) == [float(i) for i in range(NAMED_PERIODS + 1)]


def test_a_server_that_comes_later_has_a_line_from_then_on() -> None:
    found = scheduled()
    small = replace(planned(), servers=planned().servers[:1])
    grows = replace(found, periods=(replace(found.periods[0], plan=small), *found.periods[1:]))
    assert list(schedule_chart(grows).panels[0].series[1].x) == [1.0, 2.0]


def test_tables_are_written(tmp_path: Path) -> None:
    names = {path.name for path in write_tables(scheduled(), tmp_path / "tables")}
    assert names == {"periods.csv", "servers.csv", "adapters.csv", "what-if.csv"}
