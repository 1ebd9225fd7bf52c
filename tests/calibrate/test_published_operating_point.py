"""Operating points: the factor between model and measurement is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loratwin.calibrate.published.operating_point import Match, match
from loratwin.calibrate.published.serving import ServingRun, profile_for
from loratwin.metrics import itl_mean_s, tpot_s, ttft_s
from loratwin.metrics.latency import finished_only
from loratwin.perf import Profile
from tests.calibrate.measured import LLAMA, Row, measured, row, serving_runs, simulated

SHIPPED = profile_for(LLAMA.name)
OPEN = {"rate": 0.1, "slots": 16, "served": 48, "window_s": 300}
SATURATED = {"rate": 0.6, "slots": 32, "served": 64, "window_s": 240}


def slower(factor: float) -> Profile:
    return SHIPPED.model_copy(update={"step_time": SHIPPED.step_time.scaled(factor)})


def run_on(profile: Profile, values: Row, folder: Path, seed: int = 0) -> ServingRun:
    [run] = serving_runs(folder, measured(folder, values, profile, seed))
    return run


@pytest.mark.parametrize("workload", [OPEN, SATURATED], ids=["open", "saturated"])
@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_the_factor_is_found(workload: dict[str, float], factor: float, tmp_path: Path) -> None:
    found = match(run_on(slower(factor), row(**workload), tmp_path), SHIPPED)
    assert found.usable
    assert found.factor == pytest.approx(factor, rel=0.02)


def test_the_factor_is_found_with_other_arrivals(tmp_path: Path) -> None:
    """A server's arrivals are never those of the twin."""
    values = row(**{**OPEN, "window_s": 1200})
    found = match(run_on(slower(1.2), values, tmp_path, seed=5), SHIPPED)
    assert found.usable
    assert found.factor == pytest.approx(1.2, rel=0.02)


def test_what_is_said_of_the_match_is_the_servers(tmp_path: Path) -> None:
    truth = slower(1.25)
    run = run_on(truth, row(**SATURATED), tmp_path)
    found, server = match(run, SHIPPED), simulated(run, truth)
    steps, done = server.steps, finished_only(server)
    assert steps is not None
    weight = steps.decode_requests / steps.decode_requests.sum()
    assert found.step_s == pytest.approx(weight @ steps.duration_s, rel=0.02)
    swap_in_s = SHIPPED.loading.costs(server.adapters.rank, 16).swap_in_s.mean()
    assert found.swap_s == pytest.approx(weight @ steps.swap_ins * swap_in_s, rel=0.05)
    assert found.swap_s > 0
    assert found.itl_s == pytest.approx(itl_mean_s(done), rel=0.02)
    assert found.tpot_s == pytest.approx(np.nanmean(tpot_s(done)), rel=0.02)
    assert found.ttft_mean_s == pytest.approx(ttft_s(done, side="engine").mean(), rel=0.05)
    assert found.ttft_median_s == pytest.approx(np.median(ttft_s(done, side="engine")), rel=0.05)
    for name in ("decode_requests", "running", "skipped", "distinct_adapters", "decode_context"):
        mean = weight @ getattr(steps, name)
        assert getattr(found.sample, name).mean() == pytest.approx(mean, rel=0.05), name


def test_the_measured_kv_capacity_is_used(tmp_path: Path) -> None:
    """With a fraction of the KV cache, fewer run at a time: not the predicted capacity."""
    run = run_on(SHIPPED, row(**SATURATED), tmp_path)
    small = ServingRun(**{**vars(run), "row": {**run.row, "kv_tokens": "2048"}})
    assert match(small, SHIPPED).sample.running.max() < match(run, SHIPPED).sample.running.max() / 2


def test_a_measurement_that_no_factor_reaches_is_not_usable(tmp_path: Path) -> None:
    run = run_on(SHIPPED, row(**OPEN), tmp_path)
    far = ServingRun(**{**vars(run), "row": {**run.row, "tpot_mean_ms": "5000"}})
    found: Match = match(far, SHIPPED)
    assert not found.usable
    assert found.residual < -0.03
