"""SLOs: what is read, and one clear line for what cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratwin.errors import InputError
from loratwin.metrics import Limit, Slo, parse_slo
from loratwin.metrics.slo import METRICS, STATISTICS
from tests.metrics.runs import NEVER, make_run
from tests.slow import examples

RUN = make_run([0.0, 1.0], first=[1.0, 3.0], finish=[2.0, 3.5], output=[2, 6])  # TTFT 1 and 2 s, TPOT 1 and 0.1 s


def test_the_form_of_the_docs() -> None:
    assert parse_slo("ttft_p99=2s,tpot_p99=100ms") == Slo((Limit("ttft", "p99", 2.0), Limit("tpot", "p99", 0.1)))
    assert parse_slo(" TTFT_mean = .5 S , e2e_p50=1.ms") == Slo((Limit("ttft", "mean", 0.5), Limit("e2e", "p50", 1e-3)))


@given(
    limits=st.lists(
        st.tuples(st.sampled_from(METRICS), st.sampled_from(STATISTICS), st.integers(1, 10**7)),
        min_size=1,
        unique_by=lambda limit: limit[:2],
    )
)
def test_what_is_printed_is_read_again(limits: list[tuple[str, str, int]]) -> None:
    slo = Slo(tuple(Limit(metric, statistic, us * 1e-6) for metric, statistic, us in limits))
    for one, other in zip(parse_slo(str(slo)).limits, slo.limits, strict=True):
        assert (one.name, one.limit_s) == (other.name, pytest.approx(other.limit_s))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the SLO is empty; an SLO looks like ttft_p99=2s,tpot_p99=100ms"),
        ("ttft_p99", "SLO 'ttft_p99': no limit; an SLO looks like"),
        ("ttft_p99=2s,", "SLO '': no limit"),
        ("latency_p99=2s", "unknown metric 'latency'; valid: ttft, tpot, itl, e2e"),
        ("ttft=2s", "no statistic; valid: mean, p50, p90, p95, p99"),
        ("ttft_p98=2s", "unknown statistic 'p98'; valid: mean, p50, p90, p95, p99"),
        ("ttft_p99=2", "no unit; valid: ms, s"),
        ("ttft_p99=2min", "unknown unit 'min'; valid: ms, s"),
        ("ttft_p99=fast", "'fast' is not a time; write 100ms or 2s"),
        ("ttft_p99=-2s", "'-2s' is not a time"),
        ("ttft_p99=1e3ms", "'1e3ms' is not a time"),
        ("ttft_p99=0s", "must be above 0"),
        ("ttft_p99=" + "9" * 400 + "s", "is not a limit"),
        ("ttft_p99=2s,ttft_p99=3s", "ttft_p99 is given twice"),
    ],
)
def test_refusals_say_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_slo(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@examples(every_day=10, thorough=1000)
@given(text=st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_slo(text)
    except InputError as error:
        assert "\n" not in str(error)


def test_limits_met_and_missed() -> None:
    slo = parse_slo("ttft_mean=1.5s,tpot_p50=0.5s,e2e_p99=10s")
    assert [limit.name for limit in slo.missed(RUN)] == ["tpot_p50"]


def test_a_run_that_finished_nothing_keeps_no_limit() -> None:
    slo = parse_slo("ttft_p99=1000s")
    assert slo.missed(make_run([0.0], first=[NEVER])) == slo.limits


def test_limits_of_single_requests_for_goodput() -> None:
    slo = parse_slo("ttft_p99=2s,ttft_mean=1s,itl_p99=0.2s,tpot_mean=0.3s")
    assert slo.per_request_s() == {"ttft": 1.0, "tpot": pytest.approx(0.2)}
