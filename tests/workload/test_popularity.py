"""Rates and ranks reach the adapters as the specification says."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.workload import AdapterGroup, WorkloadSpec, draw, uniform_groups
from loratwin.workload.popularity import rank_list


def rates(**group: object) -> list[float]:
    return AdapterGroup(name="g", **group).rate_per_s(3600).tolist()


def test_rate_is_that_of_each_adapter() -> None:
    assert rates(count=3, rate=0.5) == [0.5, 0.5, 0.5]


def test_total_rate_is_shared_equally_by_default() -> None:
    assert rates(count=4, total_rate=2) == pytest.approx([0.5] * 4)
    assert rates(count=4, total_rate=2, popularity="equal") == pytest.approx([0.5] * 4)


def test_zipf() -> None:
    raw = np.array([1, 2**-1.3, 3**-1.3])
    assert rates(count=3, total_rate=6, popularity={"kind": "zipf", "exponent": 1.3}) == pytest.approx(
        6 * raw / raw.sum()
    )
    assert rates(count=2, total_rate=3, popularity="zipf") == pytest.approx([2, 1])


def test_weights() -> None:
    assert rates(count=3, total_rate=10, popularity=[1, 0, 4]) == pytest.approx([2, 0, 8])


def test_listed_rates_keep_their_order() -> None:
    assert rates(count=3, rates=[0.3, 0.1, 0.2]) == [0.3, 0.1, 0.2]


def test_rate_choices_are_shuffled_the_same_way_every_time() -> None:
    given = rates(count=60, rates={"values": [1, 2], "counts": [20, 40]})
    assert sorted(given) == [1] * 20 + [2] * 40
    assert given != sorted(given)
    assert given == rates(count=60, rates={"values": [1, 2], "counts": [20, 40]})
    assert given[:12] == [1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 1]  # pinned: a file means the same adapters everywhere


def test_requests_follow_the_rates() -> None:
    spec = WorkloadSpec(groups=[AdapterGroup(name="g", count=50, total_rate=20, popularity="zipf")])
    workload = draw(spec, 5)
    expected = workload.adapters.rate_per_s * 3600
    assert np.bincount(workload.adapter, minlength=50) == pytest.approx(expected, abs=4 * np.sqrt(expected.max()))
    assert ((np.bincount(workload.adapter, minlength=50) - expected) ** 2 / expected).sum() < 90  # chi-square, 50 d.f.


def test_ranks_one_and_in_turn() -> None:
    assert rank_list(16, 3).tolist() == [16, 16, 16]
    assert rank_list((8, 16, 32), 5).tolist() == [8, 16, 32, 8, 16]


@pytest.mark.parametrize(
    ("shares", "count", "expected"),
    [
        ({8: 0.5, 16: 0.5}, 6, [8, 16, 8, 16, 8, 16]),
        ({8: 0.75, 16: 0.25}, 8, [8, 8, 16, 8, 8, 8, 16, 8]),
        ({8: 0.6, 16: 0.4, 32: 0.0}, 5, [8, 16, 8, 16, 8]),
        ({8: 1 / 3, 16: 1 / 3, 32: 1 / 3}, 3, [8, 16, 32]),
        ({8: 0.9, 16: 0.1}, 2, [8, 8]),
        ({16: 0.1, 8: 0.9}, 2, [8, 8]),
    ],
)
def test_shares_of_ranks_are_exact_and_spread(shares: dict[int, float], count: int, expected: list[int]) -> None:
    assert rank_list(shares, count).tolist() == expected


@pytest.mark.parametrize("count", [1, 7, 100, 333])
def test_shares_of_ranks_are_off_by_less_than_one(count: int) -> None:
    shares = {8: 0.47, 16: 0.33, 32: 0.2}
    ranks = rank_list(shares, count)
    assert len(ranks) == count
    for rank, share in shares.items():
        assert abs(np.sum(ranks == rank) - share * count) < 1


class TestUniformGroups:
    spec = uniform_groups([0.025, 0.05, 0.1], [42, 43, 43], [8, 16], 222.7, 196.1)

    def test_has_the_rates_ranks_and_lengths_asked_for(self) -> None:
        workload = draw(self.spec, 1)
        values, counts = np.unique(workload.adapters.rate_per_s, return_counts=True)
        assert (values.tolist(), counts.tolist()) == ([0.025, 0.05, 0.1], [42, 43, 43])
        assert np.unique(workload.adapters.rank, return_counts=True)[1].tolist() == [64, 64]
        assert workload.window_s == 3600
        assert workload.prompt_tokens.mean() == pytest.approx(222.7, abs=5)
        assert workload.output_tokens.mean() == pytest.approx(196.1, abs=5)
        assert self.spec.total_rate_per_s == pytest.approx(7.5)

    @pytest.mark.parametrize("ranks", [[8, 16], [8, 16, 32], [32, 8, 8]])
    @pytest.mark.parametrize("third", [21, 43, 64, 107])
    def test_rate_index_and_rank_tell_nothing_about_each_other(self, third: int, ranks: list[int]) -> None:
        adapters = draw(uniform_groups([0.4, 0.8, 1.6], [third] * 3, ranks, 200, 200, 1.0)).adapters
        index = np.arange(len(adapters))
        table = np.corrcoef([index, adapters.rate_per_s, adapters.rank])
        assert np.abs(table[np.triu_indices(3, 1)]).max() < 3 / np.sqrt(len(adapters))
