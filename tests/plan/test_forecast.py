"""A plan says where a real run will lie, and the command for a simulation too."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loratwin.perf import load_profile
from loratwin.plan import Plan, plan, plan_json
from loratwin.plan.sentences import explanation
from loratwin.workload import AdapterGroup, WorkloadSpec
from tests.cli.program import loratwin

SPEC = WorkloadSpec(window_s=120, groups=[AdapterGroup(name="a", count=6, rate=0.3)])
PROFILE = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan(SPEC, PROFILE, slots=(6,), max_num_seqs=64)


def test_the_planned_figures_lie_in_their_intervals(planned: Plan) -> None:
    for name in ("total_throughput", "ttft_mean_ms", "itl_mean_ms"):
        found = planned.forecast.intervals[name]
        assert found.low < planned.best.mean(name) < found.high and found.level == 0.9


def test_a_profile_that_errs_more_has_wider_intervals(planned: Plan) -> None:
    """Twice the held-out errors: wider by as much as the errors are of the whole."""
    errors = {
        name: {regime: tuple(2 * each for each in quantiles) for regime, quantiles in regimes.items()}
        for name, regimes in PROFILE.uncertainty.residual.items()
    }
    worse = PROFILE.model_copy(update={"uncertainty": PROFILE.uncertainty.model_copy(update={"residual": errors})})
    wide = plan(SPEC, worse, slots=(6,), max_num_seqs=64).forecast.intervals["ttft_mean_ms"]
    narrow = planned.forecast.intervals["ttft_mean_ms"]
    assert wide.high / wide.low > 1.05 * narrow.high / narrow.low


def test_the_plan_says_so_in_words_and_as_json(planned: Plan) -> None:
    assert any("90 % of the time" in line and "tokens/s" in line for line in explanation(planned))
    found = plan_json(planned)["forecast"]["intervals"]["total_throughput"]
    assert 0 < found["low"] < found["high"]


def test_without_stated_errors_the_plan_says_nothing_of_them(planned: Plan) -> None:
    silent = replace(planned, profile=PROFILE.model_copy(update={"uncertainty": None}))
    assert not any("A real run will show" in line for line in explanation(silent))
    assert any("other requests alone" in line for line in explanation(silent))


def test_simulate_shows_intervals(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("window_s: 60\ngroups: [{name: a, count: 3, rate: 0.5}]\n")
    words = ["simulate", "w.yaml", "--profile", PROFILE.name, "--intervals"]
    table = loratwin(*words, cwd=tmp_path)
    assert table.returncode == 0 and table.stdout.count("90 % of real runs") > 5
    (result,) = json.loads(loratwin(*words, "--json", cwd=tmp_path).stdout)["results"]
    found = result["prediction_intervals"]["figures"]["total_throughput_tokens_per_s"]
    assert found["low"] < result["figures"]["total_throughput_tokens_per_s"]["mean"] < found["high"]
