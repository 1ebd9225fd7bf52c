"""Latencies and throughput against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loratwin.errors import UnknownNameError
from loratwin.metrics import (
    e2e_s,
    finished,
    goodput,
    itl_mean_s,
    latency_figure_s,
    offered,
    queueing_s,
    served_share,
    summarize,
    throughput,
    tpot_s,
    ttft_s,
)
from tests.metrics.runs import NEVER, make_run

#             finished   one token  at the end  after it   never
ARRIVAL = [0.0, 1.0, 2.0, 3.0, 9.0]
ADMITTED = [0.5, 1.0, 2.0, 4.0, NEVER]
FIRST = [1.0, 3.0, 2.5, 5.0, NEVER]
FINISH = [4.0, 3.0, 10.0, 10.5, NEVER]
PROMPT = [10, 20, 30, 40, 50]
OUTPUT = [4, 1, 6, 12, 7]
RUN = make_run(ARRIVAL, FIRST, FINISH, admitted=ADMITTED, prompt=PROMPT, output=OUTPUT)


def test_finished_is_up_to_the_end_of_the_window_and_not_after() -> None:
    assert finished(RUN).tolist() == [True, True, True, False, False]


def test_time_to_first_token_end_to_end_and_queueing() -> None:
    np.testing.assert_allclose(ttft_s(RUN), [1.0, 2.0, 0.5, 2.0, NEVER])
    np.testing.assert_allclose(e2e_s(RUN), [4.0, 2.0, 8.0, 7.5, NEVER])
    np.testing.assert_allclose(queueing_s(RUN), [0.5, 0.0, 0.0, 1.0, NEVER])


def test_tpot_of_a_single_token_is_undefined() -> None:
    np.testing.assert_allclose(tpot_s(RUN), [1.0, NEVER, 1.5, 0.5, NEVER])


def test_two_tokens_have_one_gap() -> None:
    assert tpot_s(make_run([0.0], first=[1.0], finish=[4.0], output=[2])).tolist() == [3.0]


def test_the_share_served_is_of_what_was_offered() -> None:
    assert served_share(RUN) == pytest.approx(71 / 180)
    assert math.isnan(served_share(make_run([])))


def test_the_mean_gap_weighs_tokens_and_not_requests() -> None:
    assert itl_mean_s(RUN) == pytest.approx((3.0 + 0.0 + 7.5) / (3 + 0 + 5))
    assert summarize(RUN).tpot_mean_ms == pytest.approx(1250.0)


def test_the_client_sees_its_own_start() -> None:
    sent = [time - 0.25 for time in ARRIVAL]
    run = make_run(ARRIVAL, FIRST, FINISH, sent=sent, output=OUTPUT)
    np.testing.assert_allclose(ttft_s(run, "client")[:2], [1.25, 2.25])
    np.testing.assert_allclose(ttft_s(run, "engine")[:2], [1.0, 2.0])
    np.testing.assert_allclose(e2e_s(run, "client")[:2], [4.25, 2.25])


def test_a_simulated_client_adds_its_overhead() -> None:
    run = make_run(ARRIVAL, FIRST, FINISH, client_overhead_s=0.125)
    np.testing.assert_allclose(ttft_s(run, "client")[:2], [1.125, 2.125])
    np.testing.assert_allclose(ttft_s(run, "engine")[:2], [1.0, 2.0])


def test_throughput_counts_the_finished_and_offered_counts_all() -> None:
    assert throughput(RUN).input == pytest.approx((10 + 20 + 30) / 10)
    assert throughput(RUN).output == pytest.approx((4 + 1 + 6) / 10)
    assert throughput(RUN).total == pytest.approx(7.1)
    assert offered(RUN).total == pytest.approx((150 + 30) / 10)


def test_offered_includes_the_refused_and_not_who_came_after_the_window() -> None:
    run = make_run([0.0, 1.0, 10.0], refused=[False, True, False], prompt=[1, 2, 4], output=[8, 16, 32])
    assert offered(run).total == pytest.approx(2.7)


def test_goodput_needs_every_limit() -> None:
    assert goodput(RUN, {}) == pytest.approx(0.3)
    assert goodput(RUN, {"ttft": 1.0}) == pytest.approx(0.2)
    assert goodput(RUN, {"ttft": 2.0, "tpot": 1.0}) == pytest.approx(0.2)  # one token has no TPOT to miss
    assert goodput(RUN, {"ttft": 1.0, "tpot": 1.0, "e2e": 3.9}) == 0.0
    with pytest.raises(UnknownNameError, match="unknown latency of a request 'tfft'. Did you mean 'ttft'"):
        goodput(RUN, {"tfft": 1.0})


def test_figures_leave_out_what_is_undefined() -> None:
    assert latency_figure_s(RUN, "ttft", "mean") == pytest.approx(3.5 / 3)
    assert latency_figure_s(RUN, "ttft", "p50") == pytest.approx(1.0)
    assert latency_figure_s(RUN, "tpot", "p90") == pytest.approx(1.45)
    assert latency_figure_s(RUN, "e2e", "p99") == pytest.approx(4.0 + 0.98 * 4.0)
    assert latency_figure_s(RUN, "itl", "mean") == pytest.approx(10.5 / 8)
    nothing = make_run([1.0])
    assert np.isnan([latency_figure_s(nothing, metric, "p50") for metric in ("ttft", "tpot", "itl", "e2e")]).all()
