"""The page of a plan of a fleet: whole, self-contained, the same every time, and all that the plan knows."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from loratwin.fleet import Gpus, Placement, plan_fleet
from loratwin.fleet.plan_result import FleetPlan
from loratwin.fleet.plan_text import verdict_lines
from loratwin.report.fleet_page import fleet_page, server_chart, write_fleet_tables
from loratwin.report.fleet_tables import fleet_tables
from loratwin.report.tables import table_csv
from loratwin.workload import AdapterGroup, WorkloadSpec, Zipf
from tests.cli.program import loratwin
from tests.plan.small import LENGTHS, NASTY, profile
from tests.report.page import Page, assert_self_contained


@cache
def planned() -> FleetPlan:
    """Two servers, a hot adapter on both, and one whose name is best not trusted."""
    group = AdapterGroup(
        name="a", count=8, names=("hot", NASTY, *(f"a-{i}" for i in range(6))), total_rate=150,
        popularity=Zipf(exponent=1.5), ranks=8,
    )  # fmt: skip
    spec = WorkloadSpec(window_s=40, lengths=LENGTHS, groups=(group,))
    kind = Gpus(profile(), price_per_h=2.0)
    return plan_fleet(spec, [kind], slots=[4, 8], max_num_seqs=256, max_model_len=4096, seeds=(0,), name="<mine>")


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    text = fleet_page(planned())
    assert_self_contained(text, NASTY)
    assert fleet_page(planned()) == text


def test_it_says_what_the_terminal_says() -> None:
    page = Page(fleet_page(planned()))
    for line in verdict_lines(planned()):
        assert line in page.text
    for case in planned().stress:
        assert case.name in page.text
    assert "Price" in page.text and "Moves" not in page.text
    assert "Moves" in Page(fleet_page(replace(planned(), moves=3))).text


def test_tables_hold_every_server_and_every_fraction() -> None:
    found = planned()
    servers, adapters, worst, _ = (list(csv.DictReader(io.StringIO(table_csv(each)))) for each in fleet_tables(found))
    assert [row["server"] for row in servers] == [server.name for server in found.servers]
    total = sum(float(row["tokens_per_s"]) for row in servers)
    assert total == pytest.approx(found.load.sum(), rel=1e-4)
    by_name = {row["adapter"]: row for row in adapters}
    assert set(by_name) == set(found.adapters) and adapters[0]["adapter"] == "hot"
    assert by_name["hot"]["num_servers"] == str(int(found.placement.num_replicas()[0])) != "1"
    parts = [float(each.split()[1]) for each in by_name["hot"]["servers"].split(", ")]
    assert sum(parts) == pytest.approx(100, abs=len(parts))
    assert float(worst[0]["ttft_p99_ms"]) == pytest.approx(found.worst[0].ttft_p99_ms, rel=1e-4)


def test_an_adapter_in_reserve_is_said_to_be() -> None:
    found = planned()
    shares = {name: {"gpu-0": 1.0, "gpu-1": 0.0} for name in found.adapters}
    held = Placement.of(found.placement.servers, shares)
    (row, *_) = fleet_tables(replace(found, placement=held))[1].rows
    assert row.cells[-1].text == "gpu-0, gpu-1 0 %"


def test_many_servers_are_points_without_names() -> None:
    found = planned()
    many = replace(found, servers=found.servers * 20)
    load, held, margin = server_chart(many).panels
    assert load.ticks == () or not load.ticks
    assert {panel.series[0].look for panel in (load, held, margin)} == {"points"}
    few = server_chart(found).panels[0]
    assert list(few.ticks) == [server.name for server in found.servers] and few.series[0].look == "bars"
    assert np.allclose(few.series[0].y, found.loads)


def test_the_command_writes_page_and_tables(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(
        "window_s: 15\nlengths: {prompt: {kind: fixed, tokens: 100}, output: {kind: fixed, tokens: 50}}\n"
        "groups:\n- {name: a, count: 2, total_rate: 20, ranks: 8}\n"
    )
    line = ("fleet", "plan", "w.yaml", "--gpus", profile().name, "--seeds", "1", "--processes", "1")
    done = loratwin(*line, "-o", "fleet.html", "--csv", "tables", cwd=tmp_path)
    assert done.returncode == 0 and "written: fleet.html" in done.stdout, done.stderr
    assert (tmp_path / "fleet.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {each.name for each in (tmp_path / "tables").iterdir()} == {
        "servers.csv", "adapters.csv", "worst.csv", "what-if.csv"
    }  # fmt: skip
    assert len(write_fleet_tables(planned(), tmp_path / "more")) == 4
