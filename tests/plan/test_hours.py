"""A day is planned by its busiest hour, and the answer is tried on all of it."""

from __future__ import annotations

import pytest

from loratwin.errors import InputError, UnknownNameError
from loratwin.metrics import summarize
from loratwin.plan import explanation, plan, plan_json
from loratwin.plan.what_if import parse_scale, what_if
from loratwin.simulate import simulate
from loratwin.workload import AdapterGroup, Diurnal, WorkloadSpec, draw, part_of
from tests.plan.small import LENGTHS, profile

DAY = WorkloadSpec(
    window_s=4 * 3600.0,
    lengths=LENGTHS,
    groups=(AdapterGroup(name="g", count=8, total_rate=1.0, arrivals=Diurnal(relative_rates=(1.0, 1.0, 4.0, 1.0))),),
)
OPTIONS = {"seeds": (0,), "max_num_seqs": 64, "max_model_len": 4096, "slots": [4, 8], "headroom": 0.0}


def test_the_busiest_hour_is_planned_and_all_are_served() -> None:
    found = plan(DAY, profile(), **OPTIONS)  # type: ignore[arg-type]
    assert found.hour is not None and found.hour.text == "2:00 to 3:00"
    assert found.window_s == 3600 and found.best is not None
    hour = draw(part_of(DAY, 2 * 3600.0), 0)
    run = simulate(hour, profile(), found.best.config)
    assert found.best.throughput == pytest.approx(summarize(run).total_throughput)
    whole = summarize(simulate(draw(DAY, 0), profile(), found.best.config))
    assert found.whole is not None and found.whole.summary == whole
    said = next(line for line in explanation(found) if line.startswith("Planned for the busiest hour, 2:00 to 3:00"))
    assert "2.3 times the mean; over all 4 hours it serves" in said
    assert plan_json(found)["busiest_hour"]["start_s"] == 7200
    (as_is, tripled) = what_if(found, DAY, [parse_scale("g=3")])
    assert as_is.candidate.throughput == pytest.approx(found.best.throughput)
    assert tripled.candidate.throughput > 2.5 * found.best.throughput


def test_all_hours_are_planned_where_told() -> None:
    few = DAY.model_copy(update={"window_s": 2 * 3600.0})
    found = plan(few, profile(), hours="all", **{**OPTIONS, "slots": [8]})  # type: ignore[arg-type]
    assert found.hour is None and found.window_s == few.window_s
    assert not any("busiest hour" in line for line in explanation(found))


def test_impossible_hours_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown hours 'noon'"):
        plan(DAY, profile(), hours="noon")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs a specification"):
        plan(draw(DAY, 0), profile(), hours="busiest")
    with pytest.raises(InputError, match="needs more than one"):
        plan(part_of(DAY, 0.0), profile(), hours="busiest")
