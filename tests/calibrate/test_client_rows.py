"""Rows of clients: what the known formula says of a row is what the client of the known server measured."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from loratwin.calibrate.regression.client_figures import client_overheads
from loratwin.calibrate.rows.client_figures import (
    MISMATCH,
    MISTIMED,
    ClientRows,
    beside_logged,
    client_rows,
    parts_of,
)
from loratwin.calibrate.rows.operating_point import match
from loratwin.calibrate.rows.step_log import step_rows
from loratwin.perf.step_time import COEFFICIENTS
from tests.calibrate.known_clients import OVERHEAD_S, client_runs, open_
from tests.calibrate.known_steps import STEP_TIME, config_of, known_design, known_profile, known_runs

NAMES = ("few-full", "few-single", "few-prompts", "many-changing")


@lru_cache(maxsize=1)
def rows() -> ClientRows:
    runs = {name: client_runs()[name] for name in NAMES}
    runs["open"] = open_(7.0, config_of(known_design().servers[1]))
    matches = [match(name, run, known_profile()) for name, run in runs.items()]
    return client_rows(matches, known_profile(), runs)


def test_a_row_is_what_the_known_formula_says() -> None:
    found = rows()
    said = found.predicted_s(STEP_TIME) + found.first_tokens * OVERHEAD_S
    np.testing.assert_allclose(said[found.decoding], found.duration_s[found.decoding], rtol=0.01)
    np.testing.assert_allclose(said[~found.decoding], found.duration_s[~found.decoding], rtol=0.03)


def test_an_open_loop_gives_rows_of_different_batches_and_a_closed_one_a_single_row() -> None:
    found = rows()
    decoding = [int((found.decoding & (found.run == i)).sum()) for i in range(len(found.names))]
    assert decoding == [1, 1, 1, 1, 4]
    running = found.features[(found.run == 4) & found.decoding, COEFFICIENTS.index("running_s")]
    assert (np.diff(running) > 0).all() and running[-1] > 1.5 * running[0]


def test_a_run_with_a_queue_gives_no_ttft() -> None:
    found = rows()
    with_ttft = {found.names[i] for i in found.run[~found.decoding]}
    assert with_ttft == {"few-full", "few-single", "few-prompts", "open"}


def test_what_first_tokens_take_beyond_the_engine_is_the_front_ends() -> None:
    found = client_overheads(rows(), STEP_TIME)
    assert set(found) == {"few-full", "few-single", "few-prompts", "open"}
    for seconds in found.values():
        assert seconds == pytest.approx(OVERHEAD_S, abs=5e-4)


def test_noise_of_the_client_makes_rows_less_sure() -> None:
    quiet, noisy = (match("run", client_runs(noise)["few-full"], known_profile()) for noise in (0.0, 0.5))
    sure, unsure = (client_rows([m], known_profile(), ["run"]).error for m in (quiet, noisy))
    assert sure[0] == pytest.approx(MISMATCH, rel=0.05)
    assert 0.02 < np.sqrt(unsure[0] ** 2 - MISMATCH**2) < 0.1  # half a spread over some hundred requests
    assert sure[1] == pytest.approx(MISTIMED, rel=0.05)


def test_parts_have_the_mean_of_all() -> None:
    values, share = np.array([5.0, 1.0, 300.0, 2.0]), np.array([0.2, 0.5, 0.05, 0.25])
    parts = parts_of(values, share, 8)
    assert len(parts) == 8 and (np.diff(parts) >= 0).all()
    assert parts.mean() == pytest.approx(float(share @ values))
    assert parts[0] == pytest.approx(1.0) and parts[-1] == pytest.approx((0.05 * 300 + 0.075 * 5) / 0.125)


def test_beside_logged_steps_a_client_weighs_less_and_ttft_not_at_all() -> None:
    logged = step_rows(dict(list(known_runs().items())[:3]), known_profile().behaviour, 0.0)
    both = beside_logged(logged, rows(), between_runs=0.05)
    clients = both.run >= 3
    assert clients.sum() == rows().decoding.sum() and both.names[3:] == rows().names
    per_run = np.bincount(both.run, both.weight)
    np.testing.assert_allclose(per_run[:3], per_run[0])
    assert (per_run[3:] < 0.8 * per_run[0]).all() and (per_run[3:] > 0.2 * per_run[0]).all()
    assert len(both.take(clients).trust) == clients.sum()
    np.testing.assert_allclose(np.nanmean(both.tokens[~clients], axis=1), logged.tokens.mean(axis=1))
