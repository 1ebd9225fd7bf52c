"""The chance that a run keeps its limits: from draws and the profile's errors."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from loratwin.metrics import parse_slo, slo_rows, summarize
from loratwin.perf import Uncertainty
from loratwin.perf.uncertainty import PROBABILITIES
from loratwin.simulate import Draw, chance_kept, draw_of, forecast, simulate, sweep
from loratwin.workload import draw
from tests.simulate.servers import CONFIG, PROFILE, SPEC

NORMAL = tuple(NormalDist(0.1, 0.2).inv_cdf(p) for p in PROBABILITIES)
"""A real TTFT is 10 % higher in the middle, to 20 %."""

KNOWN = Uncertainty(
    standard_errors={},
    errors={"open": {"ttft_mean_ms": NORMAL, "served_share": tuple(q / 100 for q in NORMAL)}},
)


def drawn(slack: float, served: float = 1.0, starved: bool = False) -> Draw:
    return Draw(starved, served, {"ttft_mean_ms": slack})


@pytest.mark.parametrize("slack", [-0.5, 0.0, 0.1, 0.25, 0.6])
def test_one_limit_is_kept_as_often_as_the_error_is_smaller(slack: float) -> None:
    assert chance_kept([drawn(slack)], KNOWN) == pytest.approx(NormalDist(0.1, 0.2).cdf(slack), abs=0.01)


def test_it_is_the_mean_of_the_draws_and_starved_ones_keep_nothing() -> None:
    half, never = drawn(0.1), drawn(9.0, starved=True)
    assert chance_kept([half, never], KNOWN) == pytest.approx(0.25)
    assert chance_kept([drawn(9.0)], KNOWN) == pytest.approx(1.0)
    assert math.isnan(chance_kept([], KNOWN))


def test_the_limit_that_breaks_first_decides() -> None:
    both = Draw(False, 1.0, {"ttft_mean_ms": 0.1, "ttft_median_ms": 0.3})  # the median has the mean's errors
    assert chance_kept([both], KNOWN) == pytest.approx(0.5)


def test_little_more_than_what_starves_may_starve() -> None:
    edge = 0.9 / math.exp(0.001)  # just above, were the share in the middle not 0.1 % higher than predicted
    found = Uncertainty(standard_errors={}, errors={"saturated": KNOWN.errors["open"]})
    assert chance_kept([drawn(9.0, served=edge)], found) == pytest.approx(0.5)
    assert chance_kept([drawn(9.0, served=0.96)], found) > 0.99


def test_without_errors_the_draws_alone_say_it() -> None:
    draws = [drawn(0.01), drawn(-0.01), drawn(-0.2), drawn(0.0)]
    assert chance_kept(draws, None) == 0.5
    symmetric = Uncertainty(standard_errors={}, residual={"open": {"ttft_mean_ms": (0.1, 0.2, 0.3, 0.5)}})
    assert chance_kept([drawn(0.1)], symmetric) == pytest.approx(0.75)  # half of the errors are smaller


def test_who_is_asked_counts() -> None:
    """The slack is that of the adapter that fares worst, where it can be told."""
    run = simulate(draw(SPEC, 0), PROFILE, CONFIG)
    slo = parse_slo("ttft_mean=2s")
    reached = {limit.name: limit.value_s(run) for limit in slo.limits}
    rows = slo_rows(run, slo, "adapters")
    alone = draw_of(False, 1.0, slo, reached)
    each = alone.held_to(rows)
    assert alone.slack["ttft_mean_ms"] == pytest.approx(math.log(2 / reached["ttft_mean"]))
    assert each.slack["ttft_mean_ms"] == pytest.approx(math.log(2 / max(rows.value_s[0])))
    assert each.slack["ttft_mean_ms"] < alone.slack["ttft_mean_ms"]


def test_a_forecast_with_limits_has_a_chance() -> None:
    ttft_s = summarize(simulate(draw(SPEC, 0), PROFILE, CONFIG)).ttft_mean_ms / 1e3
    wide, tight, none = (
        forecast(SPEC, PROFILE, CONFIG, range(4), slo=slo)
        for slo in (parse_slo(f"ttft_mean={20 * ttft_s}s"), parse_slo(f"ttft_mean={ttft_s / 20}s"), None)
    )
    assert wide.chance > 0.95 and tight.chance < 0.01 and math.isnan(none.chance)
    assert wide.as_json()["chance"] == wide.chance and "chance" not in none.as_json()


def test_a_sweep_with_limits_says_it() -> None:
    found = sweep(SPEC, PROFILE, [CONFIG], slo="ttft_mean=100s")
    assert found.columns[0].chance > 0.95 and found.columns[0].forecast is None
    assert found.as_json()["results"][0]["chance"] == found.columns[0].chance
    assert math.isnan(sweep(SPEC, PROFILE, [CONFIG]).columns[0].chance)
