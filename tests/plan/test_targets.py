"""Limits of single groups stand in place of the common ones: for their requests, their adapters, and the chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError, UnknownNameError
from loratwin.metrics import Slo, finished, parse_slo, ttft_s
from loratwin.plan import Plan, explanation, plan, plan_json, verdict
from loratwin.plan.question import targets
from loratwin.plan.sentences import why_not_all
from loratwin.plan.targets import Targets, own_limits
from loratwin.plan.trial import Bench, Trial, combine
from loratwin.plan.what_if import parse_added, what_if
from loratwin.records import EngineConfig
from loratwin.report.plan_tables import adapters_table
from loratwin.workload import AdapterGroup, WorkloadSpec, draw
from tests.plan.small import LENGTHS, profile

CONFIG = EngineConfig(max_loras=8, max_lora_rank=16, max_num_seqs=256, max_model_len=4096)
LIMITS: dict[str, Any] = {"seeds": (0,), "slots": [8], "max_num_seqs": 256, "max_model_len": 4096, "headroom": 0.0}
NEVER, ALWAYS = "ttft_mean=0.001ms", "ttft_mean=1000s"


def spec(gold: str | None = None, free: str | None = None, **more: Any) -> WorkloadSpec:
    """Two groups, each with limits of its own or none."""
    groups = tuple(
        AdapterGroup(name=name, count=4, total_rate=2.0, ranks=8, slo=slo)
        for name, slo in (("gold", gold), ("free", free))
    )
    return WorkloadSpec(window_s=60, lengths=LENGTHS, groups=groups, **more)


def bench(workload: WorkloadSpec) -> Bench:
    return Bench((draw(workload),), tuple(range(8)), profile(), targets(workload, None, None))


def missing(workload: WorkloadSpec) -> tuple[str, ...]:
    """Who misses limits; what works and the quick verdict agree with it."""
    tried = bench(workload)
    full, quick = (tried.measure(Trial(CONFIG, 8, verdict_only=only)) for only in (False, True))
    candidate = combine(CONFIG, 8, 1, [full])
    assert full.works == quick.works == candidate.works(tried.targets.slo)
    return full.missing if full.missing or full.works else ("the server",)


def test_limits_of_a_group_stand_in_place_of_the_common_ones() -> None:
    assert missing(spec(slo=ALWAYS)) == missing(spec(gold=ALWAYS, slo=ALWAYS)) == ()
    assert missing(spec(gold=NEVER)) == missing(spec(gold=NEVER, slo=ALWAYS)) == ("gold",)
    assert missing(spec(gold=NEVER, free=NEVER)) == ("gold", "free")
    assert missing(spec(slo=NEVER)) == missing(spec(gold=ALWAYS, slo=NEVER)) == ("the server",)
    assert missing(spec(gold=ALWAYS, slo=NEVER, slo_for="groups")) == ("free",)


def test_common_limits_that_are_asked_of_nobody_are_not_missed() -> None:
    assert missing(spec(gold=ALWAYS, free=ALWAYS, slo=NEVER)) == ()


def test_adapters_are_asked_for_the_limits_of_their_group() -> None:
    found = missing(spec(gold=NEVER, slo=ALWAYS, slo_for="adapters"))
    assert found == ("gold", *(f"gold-{i}" for i in range(4)))
    assert missing(spec(free=ALWAYS, slo=NEVER, slo_for="adapters")) == tuple(f"gold-{i}" for i in range(4))


def test_common_limits_look_at_the_other_groups_requests_alone() -> None:
    tried = bench(spec(gold=ALWAYS))
    run = tried.simulate(Trial(CONFIG, 8))
    group = tried.workload(8).adapters.group
    times, of = ttft_s(run), group[run.requests.adapter]
    common = Targets(parse_slo("ttft_mean=1s"), "all", ("gold", "free"), {"gold": parse_slo(ALWAYS)}).common(run, group)
    assert np.array_equal(ttft_s(common), times[of == 1])
    (own,) = own_limits(tried.targets, run, group, None)
    assert own.whole.value_s[0, 0] == pytest.approx(times[finished(run) & (of == 0)].mean())
    assert own.customers.name == tuple(f"gold-{i}" for i in range(4))


def test_the_chance_counts_limits_of_groups() -> None:
    tried = bench(spec(gold="ttft_mean=1s", slo="ttft_mean=1000s"))
    drawn = tried.measure(Trial(CONFIG, 8, plausible=1)).draw
    alone = replace(tried, targets=Targets(parse_slo("ttft_mean=1000s"))).measure(Trial(CONFIG, 8, plausible=1)).draw
    assert drawn is not None and alone is not None
    assert drawn.slack["ttft_mean_ms"] < alone.slack["ttft_mean_ms"] - 5  # the logarithm of a thousand is 6.9
    nobody = (
        bench(spec(gold="ttft_mean=1s", free="ttft_mean=1s", slo=NEVER)).measure(Trial(CONFIG, 8, plausible=1)).draw
    )
    assert nobody is not None and nobody.slack["ttft_mean_ms"] > 0


def test_what_is_given_comes_before_the_workload() -> None:
    asked = spec(gold="ttft_p99=1s", slo="ttft_p99=2s", slo_for="groups")
    told = targets(asked, None, None)
    assert (str(told.slo), told.slo_for, {name: str(slo) for name, slo in told.own.items()}) == (
        "ttft_p99=2s", "groups", {"gold": "ttft_p99=1s"},
    )  # fmt: skip
    given = targets(asked, "ttft_p99=3s", "all", {"gold": "ttft_p99=4s", "free": Slo(parse_slo(ALWAYS).limits)})
    assert str(given.slo) == "ttft_p99=3s" and str(given.own["gold"]) == "ttft_p99=4s" and "free" in given.own
    assert targets(asked, "ttft_p99=3s", None).own == told.own
    assert targets(spec(gold=ALWAYS), None, "adapters").slo_for == "adapters"


def test_limits_that_are_none_are_refused_with_their_group() -> None:
    with pytest.raises(InputError, match=r"^group gold: SLO 'ttft': no limit; an SLO looks like ttft_p99=2s"):
        targets(spec(gold="ttft"), None, None)
    with pytest.raises(UnknownNameError, match=r"unknown group 'silver'.*gold"):
        targets(spec(), None, None, {"silver": ALWAYS})


@pytest.fixture(scope="module")
def kept() -> Plan:
    return plan(spec(gold="ttft_mean=10s", slo="ttft_mean=100s"), profile(), **LIMITS)


def test_a_plan_says_what_its_groups_keep(kept: Plan) -> None:
    assert "within ttft_mean=100s and ttft_mean=10s for gold" in verdict(kept)
    (said,) = [line for line in explanation(kept) if line.startswith("gold is asked")]
    assert said.startswith("gold is asked ttft_mean=10s of its own and reaches ttft_mean ")
    assert kept.customers is not None and kept.customers.name == tuple(f"free-{i}" for i in range(4))
    data = plan_json(kept)
    assert data["group_slos"] == {"gold": "ttft_mean=10s"}
    assert data["own_limits"]["gold"]["customers"]["adapters"] == [f"gold-{i}" for i in range(4)]
    assert data["own_limits"]["gold"]["reached_s"]["ttft_mean"] == pytest.approx(kept.own_limits[0].whole.value_s[0, 0])


def test_a_plan_that_a_group_prevents_names_it() -> None:
    found = plan(spec(gold=NEVER), profile(), **LIMITS)
    assert found.best is None and found.shortfall is not None
    assert "the closest, gold misses it." in why_not_all(found, found.shortfall)


def test_adapters_that_miss_their_groups_limits_are_marked(kept: Plan) -> None:
    assert kept.run is not None
    group = np.repeat([0, 1], 4).astype(np.int32)
    late = own_limits(replace(kept.targets, own={"gold": parse_slo(NEVER)}), kept.run, group, None)
    shown = adapters_table(kept.run, replace(kept, own_limits=late).customers_of_all)
    assert {row.cells[0].text for row in shown.rows if "misses" in row.cells[-1].text} == {
        f"gold-{i}" for i in range(4)
    }


def test_what_if_keeps_the_limits_of_groups(kept: Plan) -> None:
    asked = spec(gold="ttft_mean=10s", slo="ttft_mean=100s")
    (_, case) = what_if(kept, asked, [parse_added("2 adapters at 0.5/s, rank 8")])
    assert case.works
    tight = replace(kept, group_slos={"gold": parse_slo(NEVER)})
    (now,) = what_if(tight, asked, [])
    assert not now.works and now.candidate.missing == ("gold",)
