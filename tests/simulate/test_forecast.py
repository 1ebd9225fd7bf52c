"""Prediction intervals: as wide as what is uncertain, and holding what they say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.metrics import summarize
from loratwin.perf import Profile, Uncertainty, assume, find_gpu
from loratwin.records import EngineConfig
from loratwin.simulate import Forecast, forecast, simulate
from loratwin.workload import Fixed, Lognormal, Separate, draw
from tests.simulate.servers import CONFIG, PROFILE, SPEC

SEEDS = range(6)


def with_uncertainty(uncertainty: Uncertainty | None) -> Profile:
    return PROFILE.model_copy(update={"uncertainty": uncertainty})


CERTAIN = with_uncertainty(None)
UNSURE = with_uncertainty(Uncertainty(standard_errors={"step_time.weights_s": 0.2 * PROFILE.step_time.weights_s}))
RESIDUAL: Any = {"open": {"tpot_mean_ms": (0.1, 0.2, 0.3, 0.4)}, "saturated": {"tpot_mean_ms": (0.9, 0.9, 0.9, 0.9)}}


def widths(forecast: Forecast) -> dict[str, float]:
    """Logarithm of high / low by figure."""
    return {name: math.log(each.high / each.low) for name, each in forecast.intervals.items()}


def test_uncertain_coefficients_make_wider_intervals() -> None:
    certain, unsure = (forecast(SPEC, profile, CONFIG, SEEDS) for profile in (CERTAIN, UNSURE))
    assert widths(unsure)["tpot_mean_ms"] > 3 * widths(certain)["tpot_mean_ms"]
    for found in (certain, unsure):
        assert all(each.low < each.middle < each.high for each in found.intervals.values())
        assert (found.starts, found.starved) == (1.0, 0.0)


def test_a_known_profile_on_its_own_leaves_the_seeds() -> None:
    tpot = forecast(SPEC, CERTAIN, CONFIG, SEEDS).intervals["tpot_mean_ms"]
    runs = [math.log(summarize(simulate(draw(SPEC, seed), PROFILE, CONFIG)).tpot_mean_ms) for seed in SEEDS]
    assert tpot.middle == pytest.approx(math.exp(np.mean(runs)))
    assert tpot.spread == pytest.approx(np.std(runs, ddof=1))
    assert math.log(tpot.high / tpot.middle) == pytest.approx(2.0150 * tpot.spread * math.sqrt(1 + 1 / 6), rel=1e-3)


def test_nine_in_ten_further_runs_lie_inside() -> None:
    """Runs of other seeds on other plausible profiles, as measured ones would be."""
    interval = forecast(SPEC, UNSURE, CONFIG, range(12)).intervals["tpot_mean_ms"]
    rng = np.random.default_rng(99)
    others = [
        summarize(simulate(draw(SPEC, seed), UNSURE.sample(rng), CONFIG), percentiles=False).tpot_mean_ms
        for seed in range(1000, 1060)
    ]
    inside = np.mean([interval.low <= other <= interval.high for other in others])
    assert 0.8 <= inside <= 1.0


def test_the_models_own_error_is_added() -> None:
    profile = with_uncertainty(Uncertainty(standard_errors={}, residual=RESIDUAL))
    plain, wide = (forecast(SPEC, each, CONFIG, SEEDS) for each in (CERTAIN, profile))
    before, after = (math.log(each.intervals["tpot_mean_ms"].high / each.intervals["tpot_mean_ms"].middle)
                     for each in (plain, wide))  # fmt: skip
    assert after == pytest.approx(math.hypot(before, 0.3))
    assert widths(wide)["total_throughput"] == pytest.approx(widths(plain)["total_throughput"])
    assert any("lack the model's own error" in note for note in plain.notes)
    assert not any("lack the model's own error" in note for note in wide.notes)


def test_a_higher_level_is_wider() -> None:
    half, nearly_all = (forecast(SPEC, PROFILE, CONFIG, SEEDS, level) for level in (0.5, 0.95))
    assert all(widths(nearly_all)[name] > width for name, width in widths(half).items())


def test_what_all_seeds_remark_is_remarked_once() -> None:
    """The mean length of the prompts differs from seed to seed, and lies outside of the domain with each."""
    narrow = PROFILE.domain.model_copy(update={"prompt_tokens_mean": (1.0, 2.0)})
    lengths = Lognormal(mean=200.0, std=80.0)
    spec = SPEC.model_copy(update={"lengths": Separate(prompt=lengths, output=Fixed(tokens=100))})
    notes = forecast(spec, PROFILE.model_copy(update={"domain": narrow}), CONFIG, SEEDS).notes
    assert len([note for note in notes if "prompt_tokens_mean" in note]) == 1


def test_a_server_that_never_starts_has_no_intervals() -> None:
    found = forecast(SPEC, PROFILE, EngineConfig(max_loras=2000, max_lora_rank=128), SEEDS)
    assert (found.intervals, found.starts) == ({}, 0.0)
    assert math.isnan(found.starved)


def test_the_number_of_processes_changes_nothing() -> None:
    one, two = (forecast(SPEC, UNSURE, CONFIG, range(3), processes=n) for n in (1, 2))
    assert one == two


def test_an_assumed_profile_says_so_and_is_less_sure() -> None:
    assumed = forecast(SPEC, assume(find_gpu("h100-64gb"), PROFILE.llm), CONFIG, SEEDS)
    assert any("is assumed, not measured" in note for note in assumed.notes)
    assert widths(assumed)["tpot_mean_ms"] > widths(forecast(SPEC, PROFILE, CONFIG, SEEDS))["tpot_mean_ms"]


@pytest.mark.parametrize(("seeds", "level"), [([], 0.9), ([1], 0.9), ([1, 2], 0.0), ([1, 2], 1.0)])
def test_what_gives_no_interval_is_refused(seeds: list[int], level: float) -> None:
    with pytest.raises(InputError, match=r"two seeds|level ="):
        forecast(SPEC, PROFILE, CONFIG, seeds, level)
