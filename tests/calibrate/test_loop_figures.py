"""The figures of `benchmarks.loop`, the twin in the server's place: what is counted as right, and what as wrong."""

from __future__ import annotations

from functools import lru_cache

from benchmarks.loop import EDGES, FIGURES, KINDS, Unseen, edges_data, figures_data, predicted, table, unseen_workloads
from loratwin.calibrate import score_checks
from loratwin.calibrate.checks.check import CheckPrediction
from loratwin.perf import Profile, Uncertainty
from loratwin.records import Run
from loratwin.simulate import simulate
from tests.calibrate.known_steps import ADAPTERS, config_of, known_design, known_profile
from tests.slow import slow

WINDOW_S = 5.0


@lru_cache(maxsize=1)
def asked() -> tuple[list[Unseen], list[CheckPrediction]]:
    """Workloads for one server, and what is said of them."""
    uncertain = known_profile().model_copy(update={"uncertainty": Uncertainty(standard_errors={}, machine=0.1)})
    found = unseen_workloads(uncertain, config_of(known_design().servers[0]), ADAPTERS, [3], WINDOW_S)
    return found, [predicted(each, uncertain) for each in found]


def measured_on(server: Profile) -> dict[str, list[Run]]:
    """Two runs of each workload."""
    return {each.name: [simulate(each.workload, server, each.config)] * 2 for each in asked()[0]}


@slow
def test_a_server_as_predicted_is_inside_and_starves_where_it_should() -> None:
    unseen, predictions = asked()
    assert len(unseen) == len(KINDS) + len(EDGES)
    runs = measured_on(known_profile())
    figures = figures_data(score_checks(predictions, runs))
    assert {name: (each["inside"], each["of"]) for name, each in figures.items()} == dict.fromkeys(FIGURES, (8, 8))
    assert all(each["mean_error"] < 1e-9 and each["noise"] < 1e-9 for each in figures.values())
    assert edges_data(unseen, runs) == {"0.93": [False] * 2, "1.07": [True] * 2}


@slow
def test_a_server_half_as_fast_is_outside_and_the_table_says_so() -> None:
    unseen, predictions = asked()
    runs = measured_on(known_profile().slower(2.0))
    figures = figures_data(score_checks(predictions, runs))
    assert figures["itl_mean_ms"]["inside"] == 0 and figures["itl_mean_ms"]["mean_error"] > 0.3
    check = {
        "mean_error": {"itl_mean_ms": 0.1}, "coverage": {"itl_mean_ms": 1.0},
        "starved": [{"check": "over-2", "predicted": True, "measured": [True, False]}],
    }  # fmt: skip
    data = {
        "llm": {"num_layers": 5, "hidden_size": 192}, "adapters": 24, "calibrate_s": 600.0, "unseen": figures,
        "check": check, "edges": edges_data(unseen, runs), "machine": {},
    }  # fmt: skip
    lines = list(table("qwen3", data))
    assert lines[0].endswith("whole loop 10.0 minutes, its check included")
    assert "  starvation at 0.93 of the predicted edge: 0 of 2 right" in lines
    assert "  starvation at 1.07 of the predicted edge: 2 of 2 right" in lines
    assert "  starvation at 1.2 of the predicted edge: 1 of 2 right" in lines
