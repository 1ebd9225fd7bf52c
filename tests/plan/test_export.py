"""The plan as JSON."""

from __future__ import annotations

import json

import pytest

from loratwin.plan import Plan, lora_modules, plan_json, verdict
from tests.plan.small import impossible, overloaded, served


@pytest.mark.parametrize("made", [served, overloaded, impossible])
def test_it_is_json_and_says_what_the_plan_says(made: object) -> None:
    found: Plan = made()  # type: ignore[operator]
    data = json.loads(json.dumps(plan_json(found), allow_nan=False))
    assert data["kind"] == "simulated"
    assert data["verdict"] == verdict(found)
    assert data["served_adapters"] == list(found.served_names)
    assert len(data["alternatives"]) == len(found.alternatives)
    assert (data["best"] is None) == (found.best is None)
    assert set(data["vllm_serve"]) == ({"0.8.5", "current"} if found.best else set())


def test_figures_carry_their_uncertainty() -> None:
    found = served()
    assert found.best is not None
    data = plan_json(found)
    shown = data["best"]["figures"]["total_throughput"]
    assert shown["mean"] == found.best.throughput
    assert shown["half_width"] > 0
    assert data["best"]["config"]["max_loras"] == found.best.slots
    assert data["lora_modules"] == lora_modules(found)


def test_one_seed_has_no_uncertainty() -> None:
    assert plan_json(impossible())["alternatives"][0]["figures"]["total_throughput"]["half_width"] is None
