"""A machine whose speed changes under a calibration: noticed, named, taken out of the fit, and in the intervals."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from loratwin.calibrate.loop.text import progress_line
from loratwin.calibrate.records_fit import RecordsFit, fit_records
from loratwin.calibrate.regression.drift import measured_drift, reference_step_s
from loratwin.calibrate.robust import error_quantiles
from loratwin.calibrate.rows.step_log import step_rows
from loratwin.metrics import summarize
from loratwin.perf import Profile, Uncertainty
from loratwin.records import ReferenceLoad
from loratwin.simulate import forecast, simulate
from loratwin.workload import WorkloadSpec, draw, parse_spec
from tests.calibrate.known_machine import OVERHEAD, runs_slowed
from tests.calibrate.known_steps import LLM, STEP_TIME, config_of, known_design, known_profile
from tests.slow import slow

BEHAVIOUR = known_profile().behaviour


@lru_cache(maxsize=4)
def fitted(factor: float, reference: bool = True) -> RecordsFit:
    return fit_records(runs_slowed(factor, reference), LLM, draws=4)


def test_a_machine_slowed_by_half_is_noticed_named_and_taken_out() -> None:
    found = fitted(2.0)
    assert found.drift.part > 0.9 and found.drift.error == pytest.approx(0.035, rel=0.5)
    assert found.drift.factors["few-full"] == pytest.approx(1, abs=0.15)
    assert found.drift.factors["rank-half-2"] == pytest.approx(2, rel=0.15)
    assert found.drift.usual == pytest.approx(OVERHEAD, rel=0.25)
    (speed,) = (note for note in found.profile.card.notes if "the machine's speed" in note)
    assert "of 32 runs, each +-" in speed and "taken out of the step times" in speed
    assert any("identical runs, measured again" in note for note in found.profile.card.notes)
    assert "the machine is NOT steady" in progress_line(found)
    steady = fitted(1.0).profile.step_time
    rows = step_rows(runs_slowed(1.0), BEHAVIOUR, 0.0)
    predicted, truth = rows.predicted_s(found.profile.step_time), rows.predicted_s(steady)
    for i, name in enumerate(rows.names):
        mine = rows.run == i
        assert predicted[mine].sum() == pytest.approx(truth[mine].sum(), rel=0.15), name


@slow
def test_without_reference_loads_identical_runs_still_show_it() -> None:
    found = fitted(2.0, reference=False)
    assert found.drift.part == 0 and not found.drift.factors
    (again,) = (note for note in found.profile.card.notes if "identical runs" in note)
    assert "times as long (16 pairs)" in again
    assert max(as_measured for as_measured, _ in found.drift.again.values()) > 1.5
    assert "the machine is NOT steady" in progress_line(found)
    known = found.profile.uncertainty
    assert known is not None and known.machine > 0.1


@slow
def test_a_steady_machine_is_left_alone() -> None:
    found = fitted(1.0)
    assert found.drift.part == 0 and "NOT steady" not in progress_line(found)
    known = found.profile.uncertainty
    assert known is not None and 0 < known.machine < 0.05


@slow
def test_reference_loads_that_the_runs_do_not_follow_take_nothing_out() -> None:
    rng, runs = np.random.default_rng(1), runs_slowed(1.0)
    for name, run in runs.items():
        factor = float(
            np.exp(0.4 * rng.standard_normal())
        )  # of the load alone: something that the engine does not feel
        assert run.reference is not None
        load = ReferenceLoad(factor * run.reference.before_s, factor * run.reference.after_s)
        runs[name] = replace(run, reference=load)
    drift = measured_drift(runs, step_rows(runs, BEHAVIOUR, 0.0), BEHAVIOUR, 0.0)
    assert drift.part <= 0.25 and not drift.is_steady


@lru_cache(maxsize=1)
def workload() -> WorkloadSpec:
    group = {"name": "a", "count": 16, "ranks": [8], "total_rate": 12.0}
    lengths = {"prompt": {"kind": "fixed", "tokens": 40}, "output": {"kind": "fixed", "tokens": 20}}
    return parse_spec({"window_s": 20.0, "lengths": lengths, "groups": [group]})


@slow
@pytest.mark.parametrize("speed", [1.0, 1.4, 2.0])
def test_intervals_hold_on_the_machine_at_every_speed_that_it_had(speed: float) -> None:
    """Throughput, latencies and their tails of single workloads; of a fit to a machine that was slowed by half."""
    config = config_of(known_design().servers[1])
    predicted = forecast(workload(), fitted(2.0).profile, config, seeds=range(8)).intervals
    held = []
    for seed in (101, 102):
        seen = summarize(simulate(draw(workload(), seed), known_profile().slower(speed), config))
        for name in ("total_throughput", "itl_mean_ms", "tpot_mean_ms", "ttft_mean_ms", "ttft_p99_ms"):
            held.append(predicted[name].low <= getattr(seen, name) <= predicted[name].high)
    assert np.mean(held) >= 0.8


def test_beyond_the_measured_batches_intervals_widen() -> None:
    config = config_of(known_design().servers[1])
    known = Uncertainty(standard_errors={}, machine=0.02)
    profile = known_profile().model_copy(update={"uncertainty": known})
    inside = forecast(workload(), profile, config, seeds=range(2)).intervals
    few = known.model_copy(update={"beyond": (0.05, 0.3)})
    beyond = forecast(
        workload(),
        profile.model_copy(update={"uncertainty": few}),
        config,
        seeds=range(2),
    ).intervals
    for name in ("itl_mean_ms", "ttft_p99_ms"):
        assert beyond[name].model_error > inside[name].model_error + 0.3
    assert few.error_beyond(0.05, 0.9) == 0.0 and few.error_beyond(0.1, 0.9) == pytest.approx(0.3)
    assert few.error_beyond(0.2, 0.9) == pytest.approx(0.6) and known.error_beyond(1e6, 0.9) == 0.0


def test_a_further_error_lies_within_the_stated_levels() -> None:
    rng, inside = np.random.default_rng(3), []
    for _ in range(400):
        *known, further = rng.standard_normal(9).tolist()
        inside.append([abs(further) <= limit for limit in error_quantiles(np.array(known))])
    np.testing.assert_allclose(np.mean(inside, axis=0), (0.5, 0.8, 0.9, 0.95), atol=0.06)
    assert error_quantiles(np.array([0.1, -0.2, 0.3]))[3] > 0.3  # three errors do not show the largest


@slow
def test_a_servers_slots_are_no_drift_where_the_base_pays_for_them() -> None:
    """Of vLLM 0.8.5 the reference load takes longer on a server with more slots; the machine is the same."""
    pays = BEHAVIOUR.model_copy(update={"base_graphs": False})
    few, many = (config_of(server) for server in known_design().servers[:2])
    assert reference_step_s(STEP_TIME, many, pays) > 1.02 * reference_step_s(STEP_TIME, few, pays)
    runs = runs_slowed(1.0, noise=0.01)
    runs = {
        name: replace(run, reference=replace(run.reference, before_s=s, after_s=1.01 * s))
        for name, run in runs.items()
        if run.reference is not None and (s := 1.2 * reference_step_s(STEP_TIME, run.config, pays))
    }
    drift = measured_drift(runs, step_rows(runs, pays, 0.0), pays, 0.0)
    assert all(0.9 < factor < 1.1 for factor in drift.factors.values())


def test_a_slower_machine_is_slower_in_all_that_takes_time() -> None:
    twice: Profile = known_profile().slower(2.0)
    assert twice.step_time.weights_s == 2 * STEP_TIME.weights_s
    assert twice.frontend.overhead_s == 2 * known_profile().frontend.overhead_s
