"""The fit of logged steps: a known server's coefficients come back, what nothing shows is said, noise is survived."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loratwin.calibrate.regression.step_log import StepFit, fit_steps
from loratwin.calibrate.rows.step_log import STEPS_PER_ROW, StepRows, run_columns, step_rows, tail_errors
from loratwin.engines.versions import GENERATIONS, Generation
from loratwin.errors import DataError
from loratwin.kernel import StepFeatures, step_time_s
from loratwin.perf import LoadingModel
from loratwin.perf.step_time import COEFFICIENTS
from loratwin.records import EngineConfig
from loratwin.simulate import simulate
from loratwin.workload import Workload
from tests.calibrate.known_steps import ADAPTERS, STEP_TIME, begun_before, known_profile, known_runs, with_loads

BEHAVIOUR = known_profile().behaviour


def rows(noise: float = 0.0, but: str = "nothing") -> StepRows:
    runs = {name: run for name, run in known_runs(noise).items() if but not in name}
    return step_rows(runs, BEHAVIOUR, 0.0)


@pytest.mark.parametrize("name", ["few-changing", "many-full", "rank-disk", "few-base", "few-prompts"])
def test_the_columns_of_a_run_are_those_of_its_steps(name: str) -> None:
    run = known_runs()[name]
    steps = run.steps
    assert steps is not None
    linear, tokens = run_columns(run, BEHAVIOUR, 0.0)
    found = STEP_TIME.dense_s(tokens) + linear @ STEP_TIME.linear
    cost = STEP_TIME.resolve(run.config.max_loras, run.config.max_lora_rank, BEHAVIOUR)
    names = set(StepFeatures._fields) & set(steps.column_types())
    for i in range(0, len(steps), 7):
        known = {key: int(getattr(steps, key)[i]) for key in names}
        has = known["prefill_tokens"] if known["distinct_adapters"] else 0
        decodes = known["decode_requests"] if known["distinct_adapters"] else 0
        step = StepFeatures(**known, lora_decode_requests=decodes, lora_prefill_tokens=has)
        assert found[i] == pytest.approx(step_time_s(cost, step), rel=1e-9)


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda each: each.name)
def test_rows_of_the_twins_own_run_are_predicted_to_the_nanosecond(generation: Generation) -> None:
    """Whatever the version pads, hides or leaves out: batches on both sides of 256 and of what is a graph."""
    model = STEP_TIME.model_copy(update={"graph_tokens": 512.0, "eager_s": 2e-3, "skipped_s": 0.0, "lora_s": 1e-3})
    free = LoadingModel(swap_in_s=0.0, swap_in_padded_s=0.0, disk_load_s=0.0, disk_load_per_rank_s=0.0)
    known = known_profile()
    profile = known.model_copy(
        update={"engine": generation.name, "behaviour": generation.behaviour, "step_time": model, "loading": free}
    )
    config = EngineConfig(
        max_loras=8, max_cpu_loras=16, max_lora_rank=32, max_num_seqs=300, max_num_batched_tokens=2048
    )
    num = 600
    rng = np.random.default_rng(0)
    workload = Workload(
        np.sort(rng.uniform(0, 2, num)), np.arange(num, dtype=np.int32) % 16, rng.integers(1, 60, num, dtype=np.int32),
        rng.integers(2, 60, num, dtype=np.int32), ADAPTERS, 60.0, 0,
    )  # fmt: skip
    run = simulate(workload, profile, config)
    found = step_rows({"run": run}, generation.behaviour, model.graph_tokens)
    assert (found.tokens > 256).any() and (found.tokens > 512).any() and (found.tokens < 128).any()
    np.testing.assert_allclose(found.predicted_s(model), found.duration_s, atol=1e-9)


def test_a_known_servers_coefficients_come_back() -> None:
    found = fit_steps(rows(), 0.0, draws=8)
    for name in ("weights_s", "slot_s", "adapter_s", "slot_rank_s", "skipped_s", "lora_decode_s"):
        assert getattr(found.model, name) == pytest.approx(getattr(STEP_TIME, name), rel=0.03), name
    assert found.swap_extra_s == pytest.approx(4e-3, rel=0.03)  # the log has no time of the loads: all is extra
    assert found.between_runs < 0.005


def of_runs_s(fit: StepFit, truth: StepRows) -> dict[str, float]:
    """Predicted time of each run's steps."""
    predicted = truth.predicted_s(fit.model) + fit.swap_extra_s * truth.swap_ins
    return {name: float(predicted[truth.run == i].sum()) for i, name in enumerate(truth.names)}


def test_noise_widens_the_errors_and_hardly_moves_the_predictions() -> None:
    noisy, clean = fit_steps(rows(noise=0.2), 0.0, draws=30), fit_steps(rows(), 0.0, draws=30)
    truth = rows()
    predicted = of_runs_s(noisy, truth)
    for i, name in enumerate(truth.names):
        mine = truth.run == i
        mean = np.exp(0.2**2 / 2)  # of a factor whose logarithm is normal around 0
        assert predicted[name] == pytest.approx(mean * truth.duration_s[mine].sum(), rel=0.1), name
    assert noisy.draws["weights_s"].std() > 10 * clean.draws["weights_s"].std()
    assert 0.02 < noisy.spread < 0.2  # of rows: means of eight steps
    assert noisy.between_runs < 0.05
    assert noisy.model.slot_s > 0 and noisy.model.adapter_s > 0


def test_a_coefficient_that_no_run_shows_is_named_and_0() -> None:
    found = fit_steps(rows(but="rank-"), 0.0, draws=2)
    assert found.model.slot_rank_s == found.model.adapter_rank_s == 0.0
    assert "always together with" in found.unknown["adapter_rank_s"]
    assert "always together with" in found.unknown["eager_s"]


def test_one_number_of_slots_tells_no_cost_of_a_slot() -> None:
    """A cost per slot and tile would be taken for it, and be wrong for a server of any other number."""
    of_few = rows(noise=0.02, but="many")
    few = of_few.take(np.array([not of_few.names[i].startswith("rank") for i in of_few.run]))
    assert len({run.config.max_loras for name, run in known_runs().items() if name.startswith("few")}) == 1
    found = fit_steps(few, 0.0, draws=0)
    assert found.unknown["slot_tile_s"] == "one number of slots was measured"
    assert found.model.slot_s == found.model.slot_tile_s == found.model.slot_rank_s == 0.0
    assert few.predicted_s(found.model).sum() == pytest.approx(
        few.duration_s.sum(), rel=0.02
    )  # of this server all is told


def test_a_disturbed_stretch_of_time_pulls_little() -> None:
    clean = rows()
    duration = clean.duration_s.copy()
    duration[10:20] *= 30
    disturbed = StepRows(clean.features, duration, clean.tokens, clean.swap_ins, clean.run, clean.names)
    found = fit_steps(disturbed, 0.0, draws=2)
    assert found.num_outliers >= 10
    for name, seconds in of_runs_s(found, clean).items():
        assert seconds == pytest.approx(clean.duration_s[clean.run == clean.names.index(name)].sum(), rel=0.03), name


def test_the_slowest_steps_are_off_by_more_than_the_mean_where_a_machine_interrupts() -> None:
    """Tails of the twin's own steps are as predicted; with every fortieth step six times as long they are not."""
    run = known_runs()["few-full"]
    model = STEP_TIME
    steps = run.steps
    assert steps is not None
    load_s = np.float64(known_profile().loading.swap_in_s) * steps.swap_ins
    plain = replace(run, steps=replace(steps, load_s=load_s))
    longer = np.where(np.arange(len(steps)) % 40 == 7, 6.0, 1.0)
    interrupted = replace(run, steps=replace(steps, duration_s=steps.duration_s * longer, load_s=load_s))
    found = tail_errors({"plain": plain, "interrupted": interrupted}, model, BEHAVIOUR, 0.0)
    assert found["plain"] == pytest.approx(0.0, abs=1e-6) and found["interrupted"] > 0.5


def test_how_far_off_twice_the_batch_is_comes_from_the_largest_batches() -> None:
    batch, per_doubling = fit_steps(rows(), 0.0, draws=0).beyond or (0.0, 0.0)
    assert batch == pytest.approx(16, rel=0.1) and per_doubling < 0.3  # the formula is the server's own
    bent = rows()
    running = bent.features[:, COEFFICIENTS.index("running_s")]
    bent = replace(bent, duration_s=bent.duration_s * np.where(running > 12, 1.6, 1.0))
    assert (fit_steps(bent, 0.0, draws=0).beyond or (0.0, 0.0))[1] > 0.2


def test_too_few_steps_are_refused() -> None:
    few = rows().take(np.arange(len(rows())) < 10)
    with pytest.raises(DataError, match="10 rows of steps are too few"):
        fit_steps(few, 0.0)


def test_rows_are_means_and_runs_count_the_same() -> None:
    found = rows()
    run = known_runs()["few-single"].steps
    assert run is not None
    first = int(np.flatnonzero(found.run == found.names.index("few-single"))[0])
    # back-to-back steps last until the next begins, and the twin has no gaps
    assert found.duration_s[first] == pytest.approx(run.duration_s[:STEPS_PER_ROW].mean())
    total = np.bincount(found.run, found.weight)
    assert total == pytest.approx(np.full(len(found.names), total[0]))


def test_loads_are_taken_out_of_the_step_before_if_they_began_there() -> None:
    run, generation = with_loads(known_runs()["few-changing"]), GENERATIONS[-1]
    same, moved = (step_rows({"run": one}, generation.behaviour, 512) for one in (run, begun_before(run)))
    assert moved.duration_s == pytest.approx(same.duration_s, abs=1e-9)
