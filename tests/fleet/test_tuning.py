"""Weights chosen in the twin: all on the same requests, and evidence from seeds that had no part in the choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest

from loratwin.errors import InputError, UnknownNameError
from loratwin.fleet import Placement, Server, Tuned, simulate_fleet, tune_router
from loratwin.fleet.tuning import parse_grid, usual_weights, weightings
from loratwin.fleet.tuning_text import tuned_json, tuned_lines
from loratwin.metrics import Interval
from loratwin.records import EngineConfig
from loratwin.workload import AdapterGroup, WorkloadSpec, Zipf, draw
from tests.plan.small import LENGTHS, profile

GRID = {"queue": (0.0, 2.0), "lora": (0.0, 4.0, 8.0)}


def workload() -> WorkloadSpec:
    group = AdapterGroup(name="a", count=12, total_rate=20.0, popularity=Zipf(exponent=1.2), ranks=8)
    return WorkloadSpec(window_s=20, lengths=LENGTHS, groups=(group,))


def placement() -> Placement:
    """Every adapter on two of three servers, which have few slots."""
    config = EngineConfig(max_loras=2, max_lora_rank=8)
    servers = [Server(f"gpu-{k}", profile().name, config) for k in range(3)]
    names = workload().groups[0].adapter_names()
    return Placement.of(
        servers, {name: {f"gpu-{i % 3}": 0.5, f"gpu-{(i + 1) % 3}": 0.5} for i, name in enumerate(names)}
    )


@cache
def tuned() -> Tuned:
    return tune_router(placement(), workload(), grid=GRID, seeds=(0, 1), check_seeds=(2, 3, 4))


def worst_ms(weights: Mapping[str, float], seed: int) -> float:
    done = simulate_fleet(placement(), draw(workload(), seed), "llm-d-lora", weights=weights)
    return float(done.adapters().ttft_mean_ms.max())


def test_the_best_of_the_grid_comes_first() -> None:
    found = tuned()
    assert len(found.tried) == 6  # the usual weights are of the grid
    seen = [(row.starved_most, row.figures.worst_adapter) for row in found.tried]
    assert seen == sorted(seen) and len(set(seen)) > 2
    by_hand = sum(worst_ms(found.best.weights, seed) for seed in (0, 1)) / 2
    assert found.best.figures.worst_adapter == pytest.approx(by_hand, rel=1e-12)


def test_the_evidence_is_of_other_seeds_in_pairs() -> None:
    found = tuned()
    pairs = [(worst_ms(found.usual.weights, seed), worst_ms(found.best.weights, seed)) for seed in (2, 3, 4)]
    assert found.difference.count == 3
    assert found.difference.mean == pytest.approx(sum(new - old for old, new in pairs) / 3, rel=1e-9)
    assert found.difference.low < found.difference.mean < found.difference.high
    assert found.weights == (found.best.weights if found.is_better else found.usual.weights)


def test_other_weights_are_advised_only_where_they_are_shown_to_be_better() -> None:
    found = tuned()
    assert found.best is not found.usual
    cases = ((5.0, (1, 1), True), (7.0, (1, 1), False), (5.0, (1, 2), False))
    for half_width, starved, is_better in cases:
        case = replace(found, difference=Interval(-6.0, half_width, 3, 0.95), starved=starved)
        assert case.is_better is is_better
        assert case.weights is (found.best if is_better else found.usual).weights
        assert any(("Take --weights" if is_better else "keep --weights") in line for line in tuned_lines(case))


def test_only_proportions_are_tried() -> None:
    assert usual_weights("kserve") == {"queue": 2.0, "kv": 2.0, "lora": 4.0, "load": 0.0}
    assert usual_weights("llm-d") == {"queue": 2.0, "kv": 2.0, "load": 0.0}
    found = weightings("llm-d", {"queue": (0, 1, 2), "kv": (0, 1, 2)})
    assert [(each["queue"], each["kv"]) for each in found] == [(0, 1), (1, 0), (1, 2), (2, 1)]


def test_what_cannot_be_tuned_is_refused() -> None:
    with pytest.raises(InputError, match="'fractions' has no scorers; llm-d, "):
        weightings("fractions", GRID)
    with pytest.raises(UnknownNameError, match="scorer 'lora'"):
        weightings("llm-d", {"lora": (0.0, 1.0)})
    for grid, message in (
        ({"queue": (2.0,)}, "no weights to try but the usual"),
        ({"queue": (-1.0,)}, "queue: a weight is 0 or more, not -1"),
        ({"queue": ()}, "queue: no weight to try"),
        ({name: tuple(range(20)) for name in ("queue", "kv", "lora")}, "at most 2,000 are tried"),
    ):
        with pytest.raises(InputError, match=message):
            weightings("llm-d-lora", grid)
    with pytest.raises(InputError, match="no part in the choice"):
        tune_router(placement(), workload(), seeds=(0,), check_seeds=(0, 1))
    with pytest.raises(UnknownNameError, match="objective"):
        tune_router(placement(), workload(), objective="cost")  # type: ignore[arg-type]


def test_a_grid_is_read() -> None:
    assert parse_grid(["queue=0,1", "lora=2.5"]) == {"queue": (0.0, 1.0), "lora": (2.5,)}
    assert parse_grid(None) is None
    for text in ("queue", "queue=x"):
        with pytest.raises(InputError, match=r"--grid .* as lora=0,1,2"):
            parse_grid([text])


def test_what_was_found_is_said_and_kept() -> None:
    found = tuned()
    lines = tuned_lines(found)
    assert any("(usual)" in line for line in lines)
    assert any("--weights queue=" in line for line in lines)
    assert max(map(len, lines)) <= 130
    data = tuned_json(found)
    assert data["kind"] == "tuned router" and len(data["tried"]) == 6
    assert data["difference_ms"]["count"] == 3 and data["best"]["weights"] == dict(found.best.weights)
