"""Confidence intervals: the quantile against scipy, the interval against a textbook example."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from loratwin.metrics import confidence_interval, t_quantile


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 10, 29, 30, 199, 1000])
@pytest.mark.parametrize("probability", [0.005, 0.05, 0.5, 0.6, 0.9, 0.975, 0.995, 0.9995])
def test_the_quantile_is_scipys(probability: float, degrees: int) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("probability", "degrees"), [(0.0, 3), (1.0, 3), (0.9, 0), (math.nan, 3)])
def test_no_quantile(probability: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        t_quantile(probability, degrees)


def test_an_interval_is_scipys() -> None:
    values = [9.0, 10.0, 12.0, 13.0]
    found = confidence_interval(values, 0.9)
    low, high = stats.t.interval(0.9, 3, loc=11.0, scale=stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((11.0, low, high))
    assert (found.count, found.level) == (4, 0.9)


def test_undefined_values_are_left_out_and_one_has_no_width() -> None:
    assert confidence_interval([2.0, math.nan]).mean == 2.0
    assert math.isnan(confidence_interval([2.0, math.nan]).half_width)
    assert math.isnan(confidence_interval([]).mean)
    assert confidence_interval([1.0, 3.0, math.nan]).count == 2
    assert confidence_interval([1.0, 3.0, math.nan]).high == pytest.approx(2.0 + 12.7062, abs=1e-3)  # t(0.975, 1)
