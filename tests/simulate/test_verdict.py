"""The verdict on a percentile is that of a real run in the middle: it says kept where the chance is a half and more."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loratwin.metrics import parse_slo, served_share, slo_rows
from loratwin.perf import Uncertainty
from loratwin.simulate import chance_kept, draw_of, held_rows, real_over_simulated, simulate, simulated_slo, sweep
from loratwin.workload import draw
from tests.plan.small import profile, spec
from tests.simulate.servers import CONFIG

LATE = tuple(round(math.log(2.5) + 0.3 * z, 4) for z in (-2.05, -1.64, -1.28, -0.67, 0.0, 0.67, 1.28, 1.64, 2.05))
KNOWN = Uncertainty(standard_errors={}, errors={"open": {"ttft_p99_ms": LATE, "ttft_mean_ms": LATE}})
P99 = parse_slo("ttft_p99=2s")


def test_a_percentile_is_held_to_what_real_runs_have_and_a_mean_to_its_own() -> None:
    (held,) = simulated_slo(P99, 1.0, KNOWN).limits
    assert held.limit_s == pytest.approx(2.0 / 2.5, rel=1e-4)
    assert simulated_slo(parse_slo("ttft_mean=2s"), 1.0, KNOWN) == parse_slo("ttft_mean=2s")
    assert simulated_slo(P99, 0.5, KNOWN) == P99  # of saturated servers nothing is known
    assert simulated_slo(P99, 1.0, None) == P99


def test_a_share_of_requests_errs_as_a_high_percentile_does() -> None:
    (limit,) = parse_slo("ttft<2s:99%").limits
    assert real_over_simulated(limit, 1.0, KNOWN) == pytest.approx(2.5, rel=1e-4)


@pytest.mark.parametrize("p99_s", np.geomspace(0.3, 3.0, 15))
@pytest.mark.parametrize("known", [KNOWN, profile().uncertainty, None])
def test_the_verdict_is_the_chance_of_a_half(p99_s: float, known: Uncertainty | None) -> None:
    drawn = draw_of(False, 1.0, P99, {"ttft_p99": p99_s})
    held = simulated_slo(P99, 1.0, known).limits[0].limit_s
    assert (chance_kept([drawn], known) >= 0.5) == (p99_s <= held)


def test_who_misses_is_told_by_the_same_rule_and_shown_with_its_own_figures() -> None:
    run = simulate(draw(spec(), seed=0), profile(), CONFIG)
    own = slo_rows(run, parse_slo("ttft_p50=1s")).value_s[0]
    limit = parse_slo(f"ttft_p50={np.nanmedian(own):.6f}s")
    late = Uncertainty(standard_errors={}, errors={"open": {"ttft_mean_ms": LATE}, "saturated": {"ttft_mean_ms": LATE}})
    rows, plain = held_rows(run, limit, late), slo_rows(run, limit)
    assert rows.limits == limit.limits and np.array_equal(rows.value_s, plain.value_s, equal_nan=True)
    assert set(plain.missing) < set(rows.missing)
    strict = simulated_slo(limit, served_share(run), late)
    assert rows.missing == slo_rows(run, strict).missing


def test_a_sweep_says_both_figures() -> None:
    swept = sweep(spec(), profile(), [CONFIG], slo="ttft_p99=10s,ttft_mean=1s")
    (p99, mean), (column,) = swept.as_json()["results"][0]["slo"], swept.columns
    ratio = real_over_simulated(swept.slo.limits[0], column.summaries[0].served_share, profile().uncertainty)
    assert ratio > 2
    assert p99["real_run_s"] == pytest.approx(ratio * p99["mean_s"])
    assert mean["real_run_s"] == mean["mean_s"] and set(column.real_slo_s()) == {"ttft_p99"}
