"""The estimates behind the features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loratwin.learn.cases.case import mix_of
from loratwin.learn.cases.physics import FEW_SLOTS, kv_tokens, most_adapters, steady
from loratwin.learn.models.features import (
    CONFIGURATION,
    PUBLISHED,
    WORKLOAD,
    configuration_features,
    published_features,
    workload_features,
)
from tests.learn.small import PROFILE, minute_case

MIX = mix_of(minute_case())


def test_kv_tokens_are_the_twins_and_0_where_it_does_not_start() -> None:
    assert kv_tokens(PROFILE, 64, 16) == pytest.approx(256_640, rel=0.05)
    assert kv_tokens(PROFILE, 512, 32) == 0


def test_littles_law() -> None:
    seen = steady(MIX, PROFILE, np.array([8]), np.array([8]))
    assert seen.seats_used[0] < 1
    assert seen.running[0] == pytest.approx(8 * MIX.mean_rate * MIX.output_mean * seen.step_s[0], rel=1e-3)


def test_distinct_adapters_of_equal_popularity() -> None:
    equal = replace(MIX, rate_per_s=np.array([1.0]), weight=np.array([1.0]))
    seen = steady(equal, PROFILE, np.array([10]), np.array([10]))
    assert seen.distinct[0] == pytest.approx(10 * (1 - np.exp(-seen.running[0] / 10)))


def test_more_adapters_are_more_work_and_enough_slots_swap_nothing() -> None:
    seen = steady(MIX, PROFILE, np.array([8, 16, 32, 16]), np.array([8, 8, 8, 16]))
    assert (np.diff(seen.utilization[:3]) > 0).all()
    assert seen.swap_ins_per_s[3] == 0 and seen.swap_ins_per_s[1] > 0


def test_with_equal_rates_the_miss_rate_of_lru_is_the_share_of_adapters_without_a_slot() -> None:
    equal = replace(MIX, rate_per_s=np.array([0.1]), weight=np.array([1.0]))
    seen = steady(equal, PROFILE, np.array([100]), np.array([25]))
    assert seen.swap_ins_per_s[0] == pytest.approx(100 * 0.1 * 0.75, rel=1e-3)


@pytest.mark.filterwarnings("error")
def test_adapters_without_traffic_wait_for_no_slot() -> None:
    """Half as many adapters, all of whom ask, take as many places."""
    asking = replace(MIX, rate_per_s=np.array([0.1]), weight=np.array([1.0]))
    half = replace(MIX, rate_per_s=np.array([0.0, 0.1]), weight=np.array([0.5, 0.5]))
    seen, alone = (steady(mix, PROFILE, np.array([n]), np.array([8])) for mix, n in ((half, 64), (asking, 32)))
    assert seen.slot_wait_s[0] == pytest.approx(alone.slot_wait_s[0], rel=0.05)


def test_the_most_adapters_are_where_the_largest_batch_is_full() -> None:
    most = most_adapters(MIX, PROFILE)
    seen = steady(MIX, PROFILE, np.array([most.adapters]), np.array([FEW_SLOTS]))
    assert seen.utilization[0] == pytest.approx(1.0, abs=1e-4)
    assert most.distinct == pytest.approx(seen.distinct[0], rel=1e-3)
    assert 1 < most.distinct < most.adapters


def test_few_slots_cost_the_least() -> None:
    """So the estimate of the most adapters need not look for the best slots."""
    seen = steady(MIX, PROFILE, np.full(6, 40), np.array([8, 16, 32, 64, 128, 256]))
    assert (np.diff(seen.utilization) > 0).all()


def test_without_a_slot_an_adapter_waits_until_all_slots_are_taken() -> None:
    """Some seven of these rare adapters would be in the batch at a time: with fewer slots each cycle is longer."""
    rare = replace(MIX, rate_per_s=np.array([1e-3]), weight=np.array([1.0]))
    seen = steady(rare, PROFILE, np.array([4000] * 4), np.array([2, 4, 6, 32]))
    assert (np.diff(seen.slot_wait_s) < 0).all() and seen.slot_wait_s[3] < 0.1
    stay, wait = rare.output_mean * seen.step_s, seen.slot_wait_s
    place = np.expm1(1e-3 * stay) / 1e-3 + stay * np.log1p(1e-3 * wait)
    taken = 4000 * place / (1000 + place + wait)
    assert taken[:3] == pytest.approx([2, 4, 6], rel=1e-3) and taken[3] < 16


def test_popular_adapters_never_leave() -> None:
    busy = replace(MIX, rate_per_s=np.array([0.01, 20.0]), weight=np.array([0.5, 0.5]))
    assert steady(busy, PROFILE, np.array([32]), np.array([8])).slot_wait_s[0] > 36_000


def test_more_load_never_means_more_adapters() -> None:
    found = [most_adapters(replace(MIX, rate_per_s=MIX.rate_per_s * f), PROFILE).adapters for f in (0.1, 0.5, 1, 2, 9)]
    assert found == sorted(found, reverse=True) and found[-1] < found[0] / 20


def test_the_published_features_by_hand() -> None:
    found = dict(zip(PUBLISHED, published_features(MIX), strict=True))
    assert found == pytest.approx({
        "rate_max": 1.0, "rate_min": 0.5, "rate_mean": 0.75, "rate_std": 0.25,
        "rank_max": 16, "rank_min": 8, "rank_mean": 12, "rank_std": 4,
    })  # fmt: skip


def test_features_have_their_names() -> None:
    found = dict(zip(WORKLOAD, workload_features(MIX, PROFILE), strict=True))
    assert found["tokens_per_s"] == pytest.approx(0.75 * 300)
    assert found["distinct_of_100"] == pytest.approx(100 * (1 - (np.exp(-0.5 / 0.75) + np.exp(-1 / 0.75)) / 2))
    x, rough = configuration_features(MIX, PROFILE, [16, 32], [8, 32])
    assert x.shape == (2, len(CONFIGURATION))
    row = dict(zip(CONFIGURATION, x[0], strict=True))
    assert np.exp(row["log_slots_per_adapter"]) == pytest.approx(0.5)
    assert row["log_utilization"] == pytest.approx(np.log(rough.utilization[0]))
