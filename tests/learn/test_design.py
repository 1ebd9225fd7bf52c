"""Which workloads are learned from, and which are not."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.errors import UnknownNameError
from loratwin.learn.cases.design import MEASURED_RATES, broad_design, design, is_measured, published_design, zipf_rates


def test_the_published_design_has_120_triples_7_rank_mixes_and_2_llms() -> None:
    cases = published_design()
    assert len(cases) == len({case.name for case in cases}) == 120 * 7 * 2
    assert len({case.rates for case in cases}) == 120
    assert max(case.ranks.count(32) for case in cases) == 1


def test_measured_workloads_are_left_out_of_training() -> None:
    assert len(design("published")) == (120 - len(MEASURED_RATES)) * 7 * 2
    assert not any(is_measured(case) for case in design("published"))
    assert sum(is_measured(case) for case in published_design()) == 6 * 7 * 2


@pytest.mark.parametrize("name", ["published", "broad"])
def test_a_longer_design_begins_with_the_shorter(name: str) -> None:
    assert design(name, 60)[:20] == design(name, 20)
    assert design(name, 20) == design(name, 20)
    assert design(name, 20, seed=1) != design(name, 20)


def test_every_beginning_of_the_published_design_is_a_mixture() -> None:
    some = design("published", 100)
    assert len({case.rates for case in some}) > 50
    assert len({case.ranks for case in some}) == 7


def test_the_broad_design_is_broad() -> None:
    cases = broad_design(300)
    means = np.array([case.mean_rate for case in cases])
    assert means.min() < 0.004 and means.max() > 2 and np.median(np.log(means)) == pytest.approx(np.log(0.09), abs=0.5)
    assert {max(case.ranks) for case in cases} == {8, 16, 32, 64, 128}
    assert {case.lengths for case in cases} == {"sharegpt", "lognormal"}
    assert {case.arrivals_cv for case in cases} == {1.0, 2.0, 4.0}


def test_zipf_rates_keep_their_mean_and_shape() -> None:
    rates = zipf_rates(0.5, 1.0, parts=4)
    assert np.mean(rates) == pytest.approx(0.5, rel=1e-5)
    assert rates[-1] / rates[0] == pytest.approx(7, rel=1e-5)  # (3.5 / 4) / (0.5 / 4)
    assert zipf_rates(0.5, 0.0) == (0.5,) * 12


def test_an_unknown_design_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="unknown design 'brode'. Did you mean 'broad'\\?"):
        design("brode")
