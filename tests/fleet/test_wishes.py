"""Pins, isolation and limits of groups as a workload file has them, and beside what is given with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.fleet.gpus import Gpus
from loratwin.fleet.plan_result import FleetPlan
from loratwin.fleet.plan_text import fleet_plan_json, verdict_lines
from loratwin.fleet.planning import plan_fleet
from loratwin.fleet.problem import MOST_CLASSES, traffic_of
from loratwin.fleet.schedule import plan_schedule
from loratwin.fleet.split import routing_numbers, split_requests
from loratwin.fleet.wishes import Wishes, as_specified
from loratwin.metrics import only_of, parse_slo, ttft_s
from loratwin.plan.question import targets
from loratwin.simulate import simulate
from loratwin.workload import AdapterGroup, WorkloadSpec, draw, load_spec
from tests.plan.small import LENGTHS, profile

LIMITS: dict[str, Any] = {"slots": [4, 8], "max_num_seqs": 256, "max_model_len": 4096, "seeds": (0,), "headroom": 0.0}

FILE = """
window_s: 60
lengths: {prompt: 100, output: 50}
groups:
  - {name: gold, count: 4, total_rate: 4, slo: ttft_p99=900ms, isolated: true}
  - {name: free, count: 8, total_rate: 8, pin: [gpu-1]}
  - {name: rest, count: 2, rate: 0.5}
"""


def workload(total_rate: float = 6.0, window_s: float = 60.0, **gold: Any) -> WorkloadSpec:
    """Two groups of which one has wishes."""
    groups = (
        AdapterGroup(name="gold", count=4, total_rate=total_rate, ranks=8, **gold),
        AdapterGroup(name="free", count=4, total_rate=total_rate, ranks=8),
    )
    return WorkloadSpec(window_s=window_s, lengths=LENGTHS, groups=groups)


def planned(spec: WorkloadSpec, **options: Any) -> FleetPlan:
    pytest.importorskip("scipy")
    return plan_fleet(spec, [Gpus(profile(), options.pop("count", None))], **options, **LIMITS)


def homes(plan: FleetPlan, group: str) -> set[str]:
    """Servers that hold adapters of a group."""
    held = zip(plan.placement.adapter.tolist(), plan.placement.server.tolist(), strict=True)
    return {f"gpu-{j}" for a, j in held if plan.adapters[a].startswith(group)}


def test_a_file_says_it_of_its_groups(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(FILE, encoding="utf-8")
    spec = load_spec(tmp_path / "w.yaml")
    assert [(group.slo, group.pin, group.isolated) for group in spec.groups] == [
        ("ttft_p99=900ms", None, True), (None, ("gpu-1",), False), (None, None, False),
    ]  # fmt: skip
    wishes = as_specified(Wishes(), spec)
    assert wishes.isolated == ("gold",)
    assert wishes.pins == {f"free-{i}": ("gpu-1",) for i in range(8)}


def test_what_is_given_comes_before_the_file_and_isolation_on_top() -> None:
    spec = workload(pin=("gpu-0",), isolated=False)
    one = as_specified(Wishes(pins={"gold-1": ("gpu-1",)}, isolated=("free",)), spec)
    assert one.pins == {"gold-0": ("gpu-0",), "gold-1": ("gpu-1",), "gold-2": ("gpu-0",), "gold-3": ("gpu-0",)}
    assert one.isolated == ("free",)
    assert as_specified(Wishes(pins={"gold": ("gpu-1",)}), spec).pins == {"gold": ("gpu-1",)}
    both = as_specified(Wishes(isolated=("free",)), workload(isolated=True))
    assert both.isolated == ("free", "gold")
    assert as_specified(both, draw(spec)) is both


def test_isolated_groups_of_the_workload_have_their_own_servers() -> None:
    found = planned(workload(isolated=True))
    assert found.num_servers == 2 and not homes(found, "gold") & homes(found, "free")
    assert planned(workload()).num_servers == 1


def test_pins_of_the_workload_are_kept_and_go_with_others_isolation() -> None:
    found = planned(workload(pin=("gpu-1",)))
    assert homes(found, "gold") == {"gpu-1"} and found.num_servers == 2
    beside = planned(workload(pin=("gpu-0",)), wishes=Wishes(isolated=("free",)))
    assert homes(beside, "gold") == {"gpu-0"} and homes(beside, "free") == {"gpu-1"}


@pytest.mark.parametrize(
    ("gold", "options", "message"),
    [
        ({"pin": ("gpu-1",), "isolated": True}, {}, "adapter 'gold-0' is pinned, and its group is isolated: an"),
        (
            {"pin": ("gpu-2",)},
            {"count": 2},
            "pin: adapter 'gold-0' is to be on gpu-2, and the last of the 2 servers is",
        ),
        ({"pin": ("server-1",)}, {}, "pin: 'server-1' is no server of a plan; they are gpu-0, gpu-1"),
        (
            {"slo": "ttft_p99=1ms"},
            {},
            r"group gold: its SLO ttft_p99=1ms is out of reach: .* reaches ttft_p99 = \d+ ms",
        ),
        ({"slo": "fast"}, {}, "group gold: SLO 'fast': no limit"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(gold: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        planned(workload(**gold), **options)


def test_pins_that_contradict_each_other_are_refused() -> None:
    pins = {"gold": ("gpu-0",), "gold-2": ("gpu-1",)}
    with pytest.raises(InputError, match="pins contradict: adapter 'gold-2' is pinned to gpu-0 and to gpu-1"):
        planned(workload(), wishes=Wishes(pins=pins))


def ttft_mean_s(plan: FleetPlan, spec: WorkloadSpec, number: int) -> list[float]:
    """Of a group on each server that has requests for it, simulated anew."""
    drawn = draw(spec)
    parts = split_requests(plan.placement, drawn, routing_numbers(drawn.seed, drawn.num_requests))
    found = []
    for part, server in zip(parts, plan.placement.servers, strict=True):
        run = simulate(part, profile(), server.config)
        own = only_of(run, part.adapters.group[run.requests.adapter] == number)
        found += [float(np.nanmean(ttft_s(own)))] if len(own.requests) else []
    return found


def test_every_server_keeps_the_limits_of_the_groups_on_it() -> None:
    """At so high a rate it takes more servers to answer as quickly as the limit asks for."""
    spec = workload(total_rate=120.0, window_s=30.0)
    loose = planned(spec)
    reached = max(ttft_mean_s(loose, spec, 0))
    limit = f"ttft_mean={0.7 * reached:.4f}s"
    tight = planned(workload(total_rate=120.0, window_s=30.0, slo=limit))
    assert max(ttft_mean_s(tight, spec, 0)) <= 0.7 * reached
    assert fleet_plan_json(tight)["group_slos"] == {"gold": str(parse_slo(limit))}
    assert any(
        line.startswith("Kept on every server, of single groups: gold ttft_mean=") for line in verdict_lines(tight)
    )


def test_a_schedule_has_the_wishes_of_its_workload() -> None:
    pytest.importorskip("scipy")
    spec = workload(window_s=120.0, isolated=True, slo="ttft_p99=2s")
    found = plan_schedule(spec, [Gpus(profile())], every_s=60, ahead=False, **LIMITS)
    for period in found.periods:
        assert not homes(period.plan, "gold") & homes(period.plan, "free")
        assert {name: str(slo) for name, slo in period.plan.group_slos.items()} == {"gold": "ttft_p99=2s"}


def test_adapters_with_other_limits_are_of_another_class_however_many_groups_there_are() -> None:
    groups = tuple(
        AdapterGroup(name=f"g{i}", count=1, rate=1.0, ranks=8, slo="ttft_p99=1s" if i % 2 else None)
        for i in range(MOST_CLASSES + 1)
    )
    spec = WorkloadSpec(window_s=30, lengths=LENGTHS, groups=groups)
    classes = traffic_of((draw(spec),), targets(spec, None, None)).classes
    assert classes is not None and classes.tolist() == [i % 2 for i in range(MOST_CLASSES + 1)]
