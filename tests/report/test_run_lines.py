"""The lines of the figures of runs, against what they are drawn from."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from loratwin.metrics import client_per_adapter
from loratwin.records import DeliverySeries, Samples, Series
from loratwin.report.looks import looks
from loratwin.report.run_axes import cumulative, over_time
from loratwin.report.run_distributions import POINTS, _cdf, _gap_cdf, _lag_percentile, _paired
from loratwin.report.run_samples import SERVER, _rate, _values, gpu_series, server_series
from loratwin.report.run_timeline import _step_time, output_tokens_per_s
from tests.metrics.runs import NEVER, make_run, make_steps
from tests.report.measured import measured, simulated

EDGES = np.array([0.0, 5.0, 10.0])


def test_output_tokens_come_from_deliveries_then_from_steps_then_from_requests() -> None:
    run = make_run([0.0, 0.0], first=[2.0, 4.0], finish=[6.0, NEVER], output=[9, 9])
    assert output_tokens_per_s(run, EDGES) * 5 == pytest.approx([9 * 3 / 4, 9 / 4])
    steps = make_steps([0.0, 3.0, 7.0], [2.0, 1.0, 1.0], decode_requests=[0, 2, 4])
    stepped = replace(run, steps=steps)  # tokens at 2: 1; at 4: 1 + 2; at 8: 4
    assert output_tokens_per_s(stepped, EDGES).sum() * 5 == pytest.approx(8)
    delivered = replace(stepped, deliveries=DeliverySeries(np.array([5.0, 10.0]), np.array([30, 10])))
    assert output_tokens_per_s(delivered, EDGES).tolist() == [6, 2]


def test_a_simulated_runs_output_tokens_add_up_to_those_of_its_requests() -> None:
    run = replace(simulated(), deliveries=None)
    edges = np.linspace(0, run.window_s, 50)
    by_steps = output_tokens_per_s(run, edges).sum() * edges[1]
    by_requests = output_tokens_per_s(replace(run, steps=None), edges).sum() * edges[1]
    finished = run.requests.output_tokens[run.requests.finish_s <= run.window_s].sum()
    assert by_requests == pytest.approx(finished)
    assert finished < by_steps < 1.2 * finished  # those under way at the end have made some, too


def test_steps_take_as_long_as_they_take() -> None:
    run = make_run([0.0], window_s=10.0, steps=make_steps([0.0, 0.2, 9.9], [0.2, 0.4, 0.1]))
    found = _step_time(run)
    assert found[0] == pytest.approx(0.3)
    assert found[-1] == pytest.approx(0.1)
    assert np.isnan(found[1:-1]).all()


def test_distributions_end_at_one_and_keep_few_points() -> None:
    milliseconds, share = _cdf(np.array([0.3, np.nan, 0.1, 0.2]))
    assert milliseconds == pytest.approx([100, 200, 300])
    assert share == pytest.approx([1 / 3, 2 / 3, 1])
    x, y = _cdf(np.random.default_rng(0).exponential(1, 100_000))
    assert len(x) <= POINTS
    assert y[np.searchsorted(x, 1000)] == pytest.approx(1 - np.exp(-1), abs=0.01)
    assert len(_cdf(np.array([np.nan]))[0]) == 0


def test_gaps_come_from_the_client_else_from_steps() -> None:
    milliseconds, share = _gap_cdf(measured())
    assert share[-1] == 1
    assert (np.diff(milliseconds) > 0).all()
    done = measured().requests
    mean = 1e3 * np.nanmean((done.finish_s - done.first_token_s) / (done.output_tokens - 1))
    assert milliseconds[np.searchsorted(share, 0.5)] == pytest.approx(mean, rel=0.1)
    by_steps, share = _gap_cdf(replace(simulated(), gaps=None))
    assert share[-1] == pytest.approx(1)
    assert len(by_steps) > 10
    assert len(_gap_cdf(make_run([]))[0]) == 0


def test_lag_by_when_it_was_due() -> None:
    run = make_run([1.0, 2.0, 9.0], scheduled=[1.0, 2.0, 7.0], sent=[1.1, 2.3, 9.0])
    assert _lag_percentile(run, EDGES, 50) == pytest.approx([0.2, 2.0])


def test_adapters_are_paired_by_name() -> None:
    one = make_run([0.0, 0.0], first=[1.0, 2.0], finish=[3.0, 3.0], adapter=[0, 1])
    other = replace(
        make_run([0.0, 0.0], first=[5.0, 6.0], finish=[7.0, 7.0], adapter=[0, 1]),
        adapters=replace(one.adapters, name=("a1", "elsewhere")),
    )
    assert _paired(client_per_adapter(one), client_per_adapter(other), "ttft_mean_ms") == [("a1", 2000, 5000)]


def test_counters_are_shown_as_growth_and_survive_a_failed_scrape() -> None:
    time_s, nan = np.array([0.0, 1.0, 2.0, 4.0, 5.0]), np.nan
    found = _rate(time_s, np.array([0.0, 10.0, nan, 40.0, 3.0]))
    assert found == pytest.approx([nan, 10, nan, 10, nan], nan_ok=True)
    share = next(each for each in SERVER if each.name == "kv_usage")
    assert _values(share, time_s, Series("kv_usage", (), np.full(5, 0.5))).tolist() == [50] * 5


def test_series_of_unknown_names_draw_nothing_and_each_gpu_has_its_figures() -> None:
    time_s = np.arange(3.0)
    strange = Samples("server", time_s, (Series("what:ever", (), time_s),))
    two = Samples("gpu", time_s, tuple(Series("power_w", (("gpu", gpu),), time_s + 300) for gpu in ("0", "1")))
    run = make_run([0.0], kind="measured", samples=(strange, two))
    assert server_series(looks({"run": run})) == []
    figures = gpu_series(looks({"run": run}))
    assert [title in figure for title, figure in zip(("(GPU 0)", "(GPU 1)"), figures, strict=True)] == [True, True]


def test_the_twin_stands_beside_the_servers_own_series() -> None:
    shown = looks({"run": measured(), "twin": simulated()})
    running = server_series(shown)[0]
    assert "run (measured), twin (simulated)" in running
    assert running.count("stroke-dasharray") == 1


def test_colours_tell_kinds_and_runs_apart() -> None:
    found = looks({"a": measured(), "b": simulated(), "c": simulated()})
    assert len({look.colour for look in found}) == 3
    assert [look.dashes for look in found] == ["solid", "dashed", "dashed"]
    alone = looks({"b": simulated(), "c": simulated()})
    assert [look.dashes for look in alone] == ["solid", "dashed"]


def test_a_line_says_its_values_and_a_days_axis_is_in_hours() -> None:
    run = make_run([0.0], first=[1.0], finish=[2.0], window_s=86400.0)
    (look,) = looks({"mine": run})
    picture = over_time("x", "Requests", [(look, np.array([3600.0, 82800.0]), np.array([5.0, 9.0]))])
    assert "hour of the day" in picture
    says = re.findall("<title>(.*?)</title>", picture, re.DOTALL)
    assert says == ["06:00\nmine: 5", "18:00\nmine: 9"]


def test_a_distribution_says_what_share_was_so_fast() -> None:
    (look,) = looks({"mine": simulated()})
    picture = cumulative("x", "Time", [(look, np.array([1.0, 100.0]), np.array([0.0, 1.0]))], "requests")
    says = re.findall("<title>(.*?)</title>", picture, re.DOTALL)
    assert says[0].endswith("mine: 0 %")
    assert says[-1].endswith("mine: 100 %")
