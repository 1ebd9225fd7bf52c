"""Plausible profiles: spread and correlation as stated, never negative."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import yaml

from loratwin.errors import InputError
from loratwin.perf import Profile, Uncertainty, dump_profile, load_profile, parse_profile
from loratwin.perf.profile import shipped_names
from loratwin.perf.uncertainty import widened

LLAMA = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
RESIDUAL: Any = {
    "open": {"ttft_mean_ms": (0.1, 0.2, 0.3, 0.5), "total_throughput": (0.01, 0.02, 0.03, 0.04)},
    "saturated": {"ttft_mean_ms": (0.01, 0.02, 0.05, 0.07)},
}
NAMES = ("step_time.weights_s", "step_time.adapter_s", "loading.swap_in_s", "step_time.slot_rank_s")


def uncertain(**changes: Any) -> Profile:
    """The profile with 10 % on three coefficients and 1 us on one that was fitted as 0."""
    errors = {name: 0.1 * value(LLAMA, name) for name in NAMES} | {"step_time.slot_rank_s": 1e-6}
    return LLAMA.model_copy(update={"uncertainty": Uncertainty(**({"standard_errors": errors} | changes))})


def value(profile: Profile, name: str) -> float:
    """A coefficient by its name."""
    part, key = name.split(".")
    found: float = getattr(getattr(profile, part), key)
    return found


def samples(profile: Profile, name: str, num: int = 1500) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(7)
    return np.array([value(profile.sample(rng), name) for _ in range(num)])


@pytest.mark.parametrize("name", NAMES[:3])
def test_coefficients_spread_as_stated_around_what_was_fitted(name: str) -> None:
    drawn = samples(uncertain(), name)
    assert drawn.min() > 0
    assert np.median(drawn) == pytest.approx(value(LLAMA, name), rel=0.02)
    assert drawn.std() == pytest.approx(0.1 * value(LLAMA, name), rel=0.1)


def test_what_was_fitted_as_nothing_is_sometimes_something() -> None:
    drawn = samples(uncertain(), "step_time.slot_rank_s")
    assert drawn.min() >= 0
    assert np.sqrt((drawn**2).mean()) == pytest.approx(1e-6, rel=0.1)


def test_large_errors_give_no_negative_coefficient() -> None:
    profile = uncertain(standard_errors={"step_time.weights_s": 1.0, "step_time.roofline_power": 50.0})
    assert samples(profile, "step_time.weights_s").min() > 0
    power = samples(profile, "step_time.roofline_power")
    assert power.min() == 1.0


@pytest.mark.parametrize("correlation", [-0.9, 0.0, 0.6])
def test_coefficients_go_together_as_stated(correlation: float) -> None:
    matrix = ((1.0, correlation), (correlation, 1.0))
    profile = uncertain(correlated=NAMES[:2], correlation=matrix)
    logs = [np.log(samples(profile, name)) for name in NAMES[:2]]
    assert np.corrcoef(*logs)[0, 1] == pytest.approx(correlation, abs=0.06)


def test_what_is_certain_stays() -> None:
    rng = np.random.default_rng(0)
    certain = LLAMA.model_copy(update={"uncertainty": None})
    assert certain.sample(rng) == certain
    drawn = uncertain().sample(rng)
    assert drawn.step_time.token_s == LLAMA.step_time.token_s
    assert drawn.memory == LLAMA.memory


def test_the_same_stream_gives_the_same_profile() -> None:
    one, two = (uncertain().sample(np.random.default_rng(3)) for _ in range(2))
    assert one == two
    assert one != uncertain().sample(np.random.default_rng(4))


def test_an_uncertainty_survives_its_file() -> None:
    profile = uncertain(correlated=NAMES[:2], correlation=((1.0, 0.5), (0.5, 1.0)), residual=RESIDUAL)
    assert parse_profile(dump_profile(profile), "here") == profile


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"standard_errors": {"step_time.nothing_s": 1.0}}, "step_time.nothing_s: not a coefficient"),
        ({"standard_errors": {"llm.num_layers": 1.0}}, "llm.num_layers: not a coefficient"),
        ({"standard_errors": {"step_time.weights_s": -1.0}}, "uncertainty.standard_errors.step_time.weights_s"),
        ({"standard_errors": {}, "correlated": ["step_time.weights_s"], "correlation": [[1.0]]}, "no standard error"),
        ({"standard_errors": {"step_time.weights_s": 1.0}, "correlated": ["step_time.weights_s"]}, "need 1 rows"),
        (
            {"standard_errors": {"step_time.weights_s": 1.0, "step_time.token_s": 1.0},
             "correlated": ["step_time.weights_s", "step_time.token_s"], "correlation": [[1.0, 2.0], [2.0, 1.0]]},
            "not a correlation matrix",
        ),
    ],
)  # fmt: skip
def test_a_damaged_uncertainty_is_refused(section: dict[str, Any], message: str) -> None:
    data = yaml.safe_load(dump_profile(LLAMA))
    del data["hash"]
    data["uncertainty"] = section
    with pytest.raises(InputError) as refused:
        parse_profile(yaml.safe_dump(data), "here")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("figure", "regime", "level", "error"),
    [
        ("ttft_mean_ms", "open", 0.9, 0.3),
        ("ttft_mean_ms", "saturated", 0.9, 0.05),
        ("ttft_p99_ms", "open", 0.5, 0.1),  # a figure without its own takes that of its kind
        ("input_throughput", "open", 0.95, 0.04),
        ("running_mean", "open", 0.9, 0.0),  # nothing is known
        ("total_throughput", "saturated", 0.9, 0.0),
    ],
)
def test_held_out_errors_are_found_by_figure_and_regime(figure: str, regime: Any, level: float, error: float) -> None:
    assert Uncertainty(standard_errors={}, residual=RESIDUAL).error(figure, regime, level) == pytest.approx(error)


def test_errors_grow_with_the_level_and_beyond_the_last_quantile() -> None:
    known = Uncertainty(standard_errors={}, residual=RESIDUAL)
    errors = [known.error("ttft_mean_ms", "open", level) for level in (0.1, 0.5, 0.7, 0.9, 0.95, 0.99)]
    assert errors == sorted(errors)
    assert errors[-1] == pytest.approx(0.5 * 2.5758 / 1.95996, rel=1e-3)


@pytest.mark.parametrize(("share", "regime"), [(1.0, "open"), (0.98, "open"), (0.96, "saturated"), (math.nan, "open")])
def test_the_regime_is_told_by_what_is_served(share: float, regime: str) -> None:
    assert Uncertainty.regime(share) == regime


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_profiles_say_how_uncertain_they_are(name: str) -> None:
    known = load_profile(name).uncertainty
    assert known is not None
    assert 0.005 < known.standard_errors["step_time.weights_s"] / load_profile(name).step_time.weights_s < 0.1
    assert 0.01 < known.error("total_throughput", "saturated", 0.9) < 0.15


@pytest.mark.parametrize("level", [0.3, 0.5, 0.85, 0.95, 0.99])
@pytest.mark.parametrize("sign", [1, -1])
def test_deviations_are_the_inverse_of_the_error(level: float, sign: int) -> None:
    """Where errors of both signs are alike: between the probabilities of the signed ones to their resolution."""
    known = Uncertainty(standard_errors={}, residual=RESIDUAL)
    deviations = known.deviations("ttft_mean_ms", "open", sign * known.error("ttft_mean_ms", "open", level))
    assert deviations == pytest.approx(sign * NormalDist().inv_cdf((1 + level) / 2), rel=0.08)


def test_signed_errors_come_first_and_those_of_a_like_figure_next() -> None:
    middle = (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    known = Uncertainty(standard_errors={}, residual=RESIDUAL, errors={"open": {"ttft_p99_ms": middle}})
    assert known.deviations("ttft_p99_ms", "open", 0.2) == 0.0
    assert known.deviations("ttft_p90_ms", "open", 0.4) == known.deviations("ttft_p99_ms", "open", 0.4)
    assert known.deviations("ttft_p99_ms", "open", 0.4) == pytest.approx(NormalDist().inv_cdf(0.9))
    assert known.deviations("ttft_mean_ms", "open", 0.0) == 0.0  # has none of its own: both signs alike
    assert known.deviations("itl_p99_ms", "saturated", 0.1) == math.inf  # nothing is known
    assert known.deviations("itl_p99_ms", "saturated", -0.1) == -math.inf


def test_deviations_go_on_beyond_the_ends() -> None:
    known = Uncertainty(standard_errors={}, errors={"open": {"itl_mean_ms": tuple(0.1 * i for i in range(9))}})
    found = [known.deviations("itl_mean_ms", "open", 0.1 * i) for i in range(-20, 30)]
    assert all(after > before for before, after in pairwise(found))
    assert found[-1] > 6 and found[0] < -6


def test_shipped_profiles_know_their_errors_with_signs() -> None:
    for name in shipped_names():
        known = load_profile(name).uncertainty
        assert known is not None and set(known.errors) == {"open", "saturated"}
        for figures in known.errors.values():
            assert all(list(quantiles) == sorted(quantiles) for quantiles in figures.values())


def test_two_errors_add_in_quadrature_and_nine_in_ten_are_as_told() -> None:
    assert widened((0.0, 0.0, 0.0, 0.0), 0.5)[2] == pytest.approx(0.5)
    half, _, most, _ = widened((0.1, 0.2, 0.3, 0.4), 0.4)
    assert most == pytest.approx(0.5)
    assert half == pytest.approx(math.hypot(0.1, 0.4 * NormalDist().inv_cdf(0.75) / NormalDist().inv_cdf(0.95)))
