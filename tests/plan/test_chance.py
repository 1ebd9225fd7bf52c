"""Plans that say how likely they hold, and that are chosen by it."""

from __future__ import annotations

from dataclasses import replace

from loratwin.formatting import aligned
from loratwin.plan import Plan, explanation, plan, plan_json, plan_text, verdict
from loratwin.plan.text import trades
from tests.plan.candidates import candidate
from tests.plan.small import profile, served, spec

OPTIONS: dict[str, object] = {"seeds": (0, 1), "max_num_seqs": 256, "max_model_len": 4096, "headroom": 0.0}


def test_the_chance_is_in_the_verdict_with_what_it_is_made_of() -> None:
    found = served()
    assert found.best is not None and found.best.chance > 0.99
    assert "the chance that this holds is more than 99 %" in verdict(found)
    assert any("held-out runs" in line for line in explanation(found))
    assert plan_json(found)["best"]["chance"] == found.best.chance


def test_what_is_just_kept_is_kept_about_as_often_as_not() -> None:
    """At the limit itself, and the median error of this profile's TPOT is near 0."""
    tpot_s = served_tpot_s(24)
    edge, wide = (only(f"tpot_mean={tpot_s * factor:.6f}s", [24]) for factor in (1.003, 1.5))
    assert edge.best is not None and wide.best is not None
    assert 0.3 < edge.best.chance < 0.8 < 0.97 < wide.best.chance


def served_tpot_s(slots: int) -> float:
    found = plan(spec(), profile(), slots=[slots], **OPTIONS)  # type: ignore[arg-type]
    assert found.best is not None
    return found.best.mean("tpot_mean_ms") / 1e3


def test_confidence_chooses_what_is_surer() -> None:
    """Slots cost TPOT, so 4 are surer than 24; asked for something between, 24 are too unsure."""
    slo = f"tpot_mean={served_tpot_s(24) * 1.02:.6f}s"
    chances = [found.best.chance for slots in (4, 24) if (found := only(slo, [slots])).best is not None]
    assert chances[0] > chances[1] + 0.02
    asked = sum(chances) / 2
    sure = only(slo, [4, 24], confidence=asked)
    assert sure.serves_all and sure.best is not None
    assert (sure.best.slots, sure.best.chance, sure.confidence) == (4, chances[0], asked)
    assert [(each.slots, each.chance) for each in sure.alternatives if not each.is_likely] == [(24, chances[1])]
    text = plan_text(sure)
    assert "too unsure" in text


def test_what_nothing_reaches_is_said_with_the_best_there_is() -> None:
    found = only(f"tpot_mean={served_tpot_s(24) * 1.02:.6f}s", [24], confidence=0.97)
    why = explanation(found)[0]
    assert found.shortfall is not None and not found.serves_all
    assert "no configuration that was tried holds for all of them with a chance of 97 %" in why
    assert "the best there is has 24 slots and a chance of" in why and "(--confidence 0." in why


def only(slo: str, slots: list[int], **options: float) -> Plan:
    return plan(spec(), profile(), slo=slo, slots=slots, **OPTIONS, **options)  # type: ignore[arg-type]


def test_what_can_be_traded_stands_in_a_few_rows() -> None:
    """Only what works and nothing beats, the chosen one among it."""
    near = [candidate(8 * i, throughput=1000 - i, ttft_ms=100 - i, margin=1 + i / 100) for i in range(1, 12)]
    beaten = candidate(4, throughput=900, ttft_ms=200, margin=1.0)
    best = near[4]
    found = replace(served(), choice=replace(served().choice, best=best), alternatives=(beaten, *near))
    header, *rows = trades(found)
    assert len(rows) in (6, 7) and [row[2] for row in rows].count("chosen") == 1
    assert "4" not in [row[0] for row in rows]
    assert {row[0] for row in rows} >= {"8", "88"}
    assert header[-1] == "margin" and "What can be traded" in plan_text(found)
    assert all(len(line) <= 80 for line in aligned([header, *rows]).splitlines())
    alone = replace(found, alternatives=(best,))
    assert trades(alone) == [] and "What can be traded" not in plan_text(alone)
