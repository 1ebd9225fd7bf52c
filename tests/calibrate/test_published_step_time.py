"""The regression finds what it was given, whatever one row says, and never finds less than nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loratwin.calibrate.published.micro import MicroPoint
from loratwin.calibrate.published.rows import LINEAR, TableRows, table_rows
from loratwin.calibrate.published.start import starting_profile
from loratwin.calibrate.published.step_time import KNOWN, fit_coefficients, fit_roofline, mean_roofline_s
from loratwin.perf import EngineBehaviour, StepTimeModel
from tests.calibrate.measured import LLAMA

START = starting_profile(LLAMA).step_time
TRUTH = START.model_copy(
    update={
        "weights_s": 0.0135,
        "token_s": 2.6e-5,
        "roofline_power": 2.4,
        **{name: 1.4 * getattr(START, name) for name in LINEAR if name not in KNOWN},
        "slot_rank_s": 3e-6,
        "lora_token_rank_s": 4e-6,
    }
)


def points(number: int, seed: int = 0) -> list[MicroPoint]:
    """Steps of all kinds on servers of all sizes; their duration is still to come."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(number):
        decode, prefill = int(rng.integers(1, 500)), int(rng.integers(1, 2048)) if i % 2 else 0
        slots, rank = int(rng.choice([0, 8, 64, 300])), int(rng.choice([8, 16, 32]))
        running, adapters = int(decode * rng.uniform(1, 1.5)), int(rng.integers(1, 100)) if slots else 0
        context = (decode * int(rng.integers(1, 500)), prefill * int(rng.integers(1, 500)))
        found.append(MicroPoint("k", 1.0, decode, prefill, running, adapters, *context, slots, rank, 1.0))
    return found


def durations(model: StepTimeModel, rows: TableRows) -> np.ndarray:
    dense = mean_roofline_s(rows.tokens, model.weights_s, model.token_s, model.roofline_power)
    return dense + rows.features @ np.array([getattr(model, name) for name in LINEAR])


def rows_of(model: StepTimeModel, number: int = 300, seed: int = 0) -> TableRows:
    rows = table_rows([], points(number, seed), EngineBehaviour(), model.graph_tokens)
    return replace(rows, duration_s=durations(model, rows))


def worst_error(fitted: StepTimeModel, truth: StepTimeModel = TRUTH) -> float:
    """On steps that were not fitted."""
    fresh = rows_of(truth, seed=1)
    return float(np.abs(durations(fitted, fresh) / fresh.duration_s - 1).max())


def test_given_the_roofline_the_coefficients_are_found() -> None:
    fitted = fit_coefficients(rows_of(TRUTH), TRUTH, TRUTH.skipped_s)
    for name in LINEAR:
        assert getattr(fitted, name) == pytest.approx(getattr(TRUTH, name), rel=1e-6, abs=1e-12), name


def test_swap_ins_are_no_part_of_what_is_explained() -> None:
    rows = rows_of(TRUTH)
    swap_s = np.random.default_rng(2).uniform(0, 0.01, len(rows.duration_s))
    fitted = fit_coefficients(replace(rows, duration_s=rows.duration_s + swap_s, known_s=swap_s), TRUTH, 0.0)
    assert worst_error(fitted) < 1e-6


def test_the_roofline_is_found_too() -> None:
    assert worst_error(START) > 0.1
    assert worst_error(fit_roofline(rows_of(TRUTH), START)) < 0.02


def test_coefficients_are_never_negative() -> None:
    """Steps that get faster with slots, which no cost explains: ordinary least squares would take a negative one."""
    rows = rows_of(TRUTH)
    slots = rows.features[:, LINEAR.index("slot_s")]
    fitted = fit_coefficients(replace(rows, duration_s=rows.duration_s - 4e-5 * slots), TRUTH, 0.0)
    assert fitted.slot_s == 0
    assert all(getattr(fitted, name) >= 0 for name in LINEAR)


@pytest.mark.parametrize("factor", [5.0, 0.2])
def test_a_gross_outlier_hardly_moves_it(factor: float) -> None:
    """Without reweighting, 0.2 moves some steps by a third."""
    rows = rows_of(TRUTH)
    wrong = rows.duration_s.copy()
    wrong[7] *= factor
    assert worst_error(fit_coefficients(replace(rows, duration_s=wrong), TRUTH, 0.0)) < 0.01


def test_what_is_known_is_kept_and_the_rest_fitted_around_it() -> None:
    truth = TRUTH.model_copy(update={"context_s": 9e-8, "prefill_context_s": 3e-9})
    given = TRUTH.model_copy(update={"context_s": 9e-8, "prefill_context_s": 3e-9, "skipped_s": 7e-7})
    fitted = fit_roofline(rows_of(truth), given)
    assert [getattr(fitted, name) for name in KNOWN] == [7e-7, 9e-8, 3e-9]
    assert fit_coefficients(rows_of(truth), given, 1e-7).skipped_s == 1e-7
    exact = fit_coefficients(rows_of(truth), given, 0.0)
    assert exact.running_s == pytest.approx(truth.running_s, rel=1e-6)


@pytest.mark.parametrize(("weights", "believed"), [((30.0, 1.0), 0), ((1.0, 30.0), 1)])
def test_rows_count_by_their_weight(weights: tuple[float, float], believed: int) -> None:
    """Two servers that disagree: the one that weighs more is believed."""
    slow = TRUTH.model_copy(update={name: 1.3 * getattr(TRUTH, name) for name in LINEAR if name not in KNOWN})
    both = [rows_of(TRUTH), rows_of(slow)]
    joined = TableRows(
        np.concatenate([r.features for r in both]),
        np.concatenate([r.duration_s for r in both]),
        np.concatenate([r.known_s for r in both]),
        both[0].tokens + both[1].tokens,
        np.repeat(weights, len(both[0].duration_s)),
        both[0].group + both[1].group,
    )
    fitted = fit_coefficients(joined, TRUTH, 0.0)
    errors = [worst_error(fitted, truth) for truth in (TRUTH, slow)]
    assert errors[believed] < 0.3 * errors[1 - believed]
