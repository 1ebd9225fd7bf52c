"""Percentiles by counting in cells are numpy's, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.metrics.gaps import weighted_percentiles
from loratwin.metrics.percentiles import median, percentiles, ranked

PERCENTS = (0, 1, 33.3, 50, 90, 99, 99.9, 100)


def lists(number: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    return {
        "exponential": rng.exponential(1.0, number),
        "over many decades": rng.lognormal(0.0, 4.0, number),
        "few values": np.round(rng.exponential(1.0, number), 1),
        "all the same": np.full(number, 0.25),
        "zeros among them": np.where(rng.random(number) < 0.3, 0.0, rng.random(number)),
        "negative ones": rng.normal(0.0, 1.0, number),
    }


@pytest.mark.parametrize("number", [1, 2, 3, 1_999, 2_000, 2_001, 2_002, 50_000])
@pytest.mark.parametrize("name", lists(1))
def test_they_are_numpys_to_the_bit(name: str, number: int) -> None:
    values = lists(number)[name]
    assert percentiles(values, PERCENTS) == tuple(np.percentile(values, PERCENTS).tolist())
    assert median(values) == float(np.median(values))


def test_nothing_has_none() -> None:
    assert np.isnan(percentiles(np.zeros(0), (50, 99))).all()
    assert percentiles(np.zeros(0), ()) == percentiles(np.ones(5_000), ()) == ()
    assert np.isnan(median(np.zeros(0)))


def test_with_nan_among_them_there_are_none() -> None:
    values = np.append(np.arange(5_000.0), np.nan)
    assert np.isnan(percentiles(values, (0, 50))).all()
    assert ranked(values, np.array([0, 4_999])).tolist() == [0.0, 4_999.0]


def test_infinite_values_have_their_place() -> None:
    values = np.concatenate([np.arange(3_000.0), np.full(3_000, np.inf)])
    assert ranked(values, np.array([2_999, 3_000])).tolist() == [2_999.0, np.inf]


@pytest.mark.parametrize("name", ["exponential", "few values", "all the same"])
def test_weights_stand_for_repetition(name: str) -> None:
    values = lists(20_000)[name]
    weights = np.random.default_rng(1).integers(0, 9, len(values)).astype(np.int32)
    long = np.sort(np.repeat(values, weights))
    ranks = np.array([0, 17, len(long) // 2, len(long) - 1])
    assert ranked(values, ranks, weights).tolist() == long[ranks].tolist()
    np.testing.assert_allclose(weighted_percentiles(values, weights, (50, 99)), np.percentile(long, (50, 99)))
