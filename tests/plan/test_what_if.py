"""What if: other traffic under the chosen configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError, UnknownNameError
from loratwin.metrics import summarize
from loratwin.plan import plan_json
from loratwin.plan.what_if import (
    WhatIf,
    check_names,
    instead_text,
    parse_added,
    parse_scale,
    what_if,
    what_if_json,
    what_if_rows,
)
from loratwin.workload import AdapterGroup, WorkloadSpec, draw
from tests.plan.small import LENGTHS, impossible, on, overloaded, served, spec


def test_changes_are_read() -> None:
    assert parse_scale("big=3").factors == (("big", 3.0),)
    assert parse_scale("a=b=2, all=0.5").factors == (("a=b", 2.0), ("all", 0.5))  # names may hold "="
    added = parse_added("24 adapters at 0.1/s, rank 16").added
    assert added is not None
    assert (added.count, added.rate, added.ranks) == (24, 0.1, 16)
    one = parse_added("1 adapter at 2/s").added
    assert one is not None and one.ranks == 8


@pytest.mark.parametrize("text", ["big", "=3", "big=", "big=many", "big=-1", "big=inf", "big=nan"])
def test_what_is_no_scale(text: str) -> None:
    with pytest.raises(InputError, match="a name and a factor of 0 or more are expected, as big-customer=3"):
        parse_scale(text)


@pytest.mark.parametrize(
    "text",
    ["", "24 adapters", "x adapters at 1/s", "24 adapters at 1/s rank big", "0 adapters at 1/s", "2 adapters at ../s"],
)
def test_what_cannot_be_added(text: str) -> None:
    with pytest.raises(InputError, match="24 adapters at 0.1/s, rank 16"):
        parse_added(text)


def test_a_name_that_nobody_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="'tenant-1'. Did you mean 'tenant-.1'"):
        check_names([parse_scale("tenant-1=2")], spec())
    check_names([parse_scale("tenant=2,odd=1,all=3"), parse_scale("plain name=4")], spec())


def test_who_has_no_traffic_cannot_ask_for_more_of_it() -> None:
    silent = with_group(name="quiet", count=2, rate=0.0)
    for name in ("quiet", "quiet-1"):
        with pytest.raises(InputError, match=f"--scale: {name} has no traffic, so there is nothing to multiply; give"):
            check_names([parse_scale(f"all=2,{name}=3")], silent)


def with_group(**values: Any) -> WorkloadSpec:
    small = spec()
    return WorkloadSpec(
        window_s=300.0, lengths=LENGTHS, groups=(*small.groups, AdapterGroup(**{"rate": 0.1, **values}))
    )


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"name": "added", "count": 1}, "has a group 'added'"),
        ({"name": "x", "names": ("added-0",)}, "adapter 'added-0'"),
    ],
)
def test_adapters_whose_names_are_taken_are_refused_at_once(group: dict[str, Any], message: str) -> None:
    change = parse_added("1 adapter at 0.1/s")
    taken = with_group(**{"count": 1, **group})
    with pytest.raises(InputError, match=message):
        check_names([change], taken)
    with pytest.raises(InputError, match=message):
        what_if(served(), taken, [change])


@pytest.mark.parametrize(
    ("memory", "words"),
    [({}, "on one GPU, 3 such GPUs"), ({"tensor_parallel": 4}, "on 4 GPUs together, 3 such servers"),
     ({"kv_gib": 4.0}, "on one server, 3 such servers")],
)  # fmt: skip
def test_what_to_run_instead_is_of_what_the_profile_is_of(memory: dict[str, Any], words: str) -> None:
    found = replace(on(overloaded(), **memory), served=(0, 1, 2, 3, 4, 5, 6, 7))
    assert found.best is not None
    assert instead_text(WhatIf("x", 24, found.best, False, found)) == f"8 of 24 {words} (assumed even)"


def test_as_is_comes_first_and_what_fails_gets_a_plan_of_its_own() -> None:
    found = served()
    changes = [parse_scale("plain name=2"), parse_scale("all=200"), parse_added("6 adapters at 0.1/s, rank 16")]
    as_is, twice, flooded, more = what_if(found, spec(), changes)
    assert found.best is not None
    assert as_is.name == "as is" and as_is.works and as_is.instead is None
    assert as_is.candidate.throughput == pytest.approx(found.best.throughput)
    assert as_is.candidate.margin == found.best.margin
    assert twice.works and twice.candidate.mean("offered_throughput") > as_is.candidate.mean("offered_throughput")
    assert not flooded.works and flooded.candidate.starved and flooded.instead is not None
    assert len(flooded.instead.served) < 24
    assert more.works and more.num_adapters == 30
    assert more.candidate.config.max_cpu_loras == 30
    rows = what_if_rows((as_is, twice, flooded, more), found)
    assert [row[0] for row in rows] == [
        "case",
        "as is",
        "plain name x 2",
        "all x 200",
        "+ 6 adapters at 0.1/s, rank 16",
    ]
    assert rows[3][2] == "starves" and " of 24 on one GPU, " in rows[3][-1]
    assert what_if_json((flooded,), found)[0]["instead"]["serves_all"] is False


def test_a_higher_rank_is_given_its_room() -> None:
    *_, more = what_if(served(), spec(), [parse_added("1 adapter at 0.1/s, rank 64")])
    assert more.candidate.config.max_lora_rank == 64


def test_only_what_the_plan_serves_can_be_scaled() -> None:
    found = overloaded()
    absent = next(name for name in found.adapters if name not in found.served_names)
    with pytest.raises(InputError, match="is not among the"):
        what_if(found, spec(400.0), [parse_scale(f"{absent}=2")])
    with pytest.raises(InputError, match="nothing works as it is"):
        what_if(impossible(), spec(), [])


def test_the_biggest_customer_is_named_with_how_far_it_can_grow() -> None:
    found = served()
    assert found.biggest is not None
    rates = draw(spec(), 0).adapters.rate_per_s
    assert found.biggest.name == found.adapters[int(np.argmax(rates))]
    assert found.biggest.growth >= 1


def test_every_plan_says_what_its_biggest_customer_does_as_it_drifts_and_bursts() -> None:
    found = served()
    biggest = found.biggest
    assert biggest is not None and found.best is not None and found.run is not None
    assert [(case.factor, case.is_burst) for case in biggest.cases] == [(1, False), (2, False), (3, False), (1, True)]
    as_is, twice, thrice, burst = (case.candidate for case in biggest.cases)
    assert as_is.throughput == pytest.approx(summarize(found.run).total_throughput)
    assert as_is.mean("offered_throughput") < twice.mean("offered_throughput") < thrice.mean("offered_throughput")
    assert burst.mean("running_max") > as_is.mean("running_max")
    assert burst.keeps_up(found.slo) == biggest.bears_burst
    said = plan_json(found)["biggest_customer"]["cases"]
    assert [case["keeps_up"] for case in said] == [case.candidate.keeps_up(found.slo) for case in biggest.cases]
