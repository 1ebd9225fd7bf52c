"""What the client sees: metric series counted with sets, and what their scrapes do to latencies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loratwin.calibrate.published.serving import profile_for
from loratwin.metrics import itl_mean_s, tpot_s, ttft_s
from loratwin.metrics.latency import finished_only
from loratwin.perf import Frontend
from loratwin.records import AdapterTable, Run
from loratwin.simulate import simulate
from loratwin.simulate.observe import MetricSeries, combinations, metric_series, observe
from tests.calibrate.measured import LLAMA, row, serving_runs, simulated
from tests.metrics.runs import make_run, make_steps

PARTS = 12
FRONTEND = Frontend(
    overhead_s=0.01,
    first_use_s=0.3,
    scrape_interval_s=0.5,
    series_s=2e-3,
    series_name_s=1e-5,
    stall_ttft=4.0,
    generated_share=1.0,
)


@pytest.fixture(scope="module", params=["open", "queue"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A minute of a few adapters: combinations come back, and some requests are unfinished at the end."""
    folder = tmp_path_factory.mktemp("rows")
    slots, rate = (8, 0.3) if request.param == "open" else (4, 1.0)
    [values] = serving_runs(folder, row(rate=rate, slots=slots, served=8, window_s=60))
    return simulated(values)


def present(run: Run, start_s: np.ndarray, end_s: np.ndarray, now_s: float) -> frozenset[int]:
    """Adapters of the requests that are there now, looking at each."""
    inside = (start_s <= now_s) & ~(end_s <= now_s)
    return frozenset(int(a) for a in run.requests.adapter[inside] if a >= 0)


def slow_count(run: Run, with_waiting: bool) -> tuple[list[int], list[int]]:
    """Series and names at the end of each part: sets of sets, nothing clever."""
    r, steps = run.requests, run.steps
    assert steps is not None
    seen: dict[tuple[frozenset[int], frozenset[int]], float] = {}
    any_yet = False
    for end_s in steps.start_s + steps.duration_s:
        running = present(run, r.first_token_s, np.where(r.finish_s <= run.window_s, r.finish_s, np.nan), end_s)
        arrived = np.where(r.refused, np.nan, r.arrival_s)
        waiting = present(run, arrived, r.first_token_s, end_s) if with_waiting else frozenset()
        any_yet = any_yet or bool(running | waiting)
        if any_yet:
            seen.setdefault((running, waiting), end_s)
    ends = [run.window_s * (i + 1) / PARTS for i in range(PARTS)]
    inside = [[combination for combination, at in seen.items() if at <= end] for end in ends]
    return [len(c) for c in inside], [sum(len(a) + len(b) for a, b in c) for c in inside]


def counted(run: Run, with_waiting: bool) -> MetricSeries:
    return combinations(run)[with_waiting]


def test_running_sets_are_counted_as_with_sets(run: Run) -> None:
    found = counted(run, with_waiting=False)
    series, names = slow_count(run, with_waiting=False)
    assert found.num_series.tolist() == series
    assert found.num_names.tolist() == names
    assert series[-1] > 20


def test_both_sets_are_counted_as_with_sets(run: Run) -> None:
    found = counted(run, with_waiting=True)
    series, names = slow_count(run, with_waiting=True)
    assert found.num_series.tolist() == series
    assert found.num_names.tolist() == names
    assert series[-1] > slow_count(run, with_waiting=False)[0][-1]


def test_refused_requests_never_waited(run: Run) -> None:
    refused = run.requests.refused.copy()
    refused[np.isnan(run.requests.first_token_s)] = True
    refused[:3] = np.isnan(run.requests.first_token_s[:3])
    changed = replace(run, requests=replace(run.requests, refused=refused))
    found = counted(changed, with_waiting=True)
    assert found.num_series.tolist() == slow_count(changed, with_waiting=True)[0]


def test_the_mean_of_the_two_is_taken(run: Run) -> None:
    one, both = slow_count(run, with_waiting=False), slow_count(run, with_waiting=True)
    found = metric_series(run)
    assert found.num_series.tolist() == [(a + b) / 2 for a, b in zip(one[0], both[0], strict=True)]
    assert found.num_names.tolist() == [(a + b) / 2 for a, b in zip(one[1], both[1], strict=True)]


def test_the_middle_of_a_part_lies_between_its_ends(run: Run) -> None:
    ends = metric_series(run)
    series, names = ends.mean_over_parts()
    assert series[0] == ends.num_series[0] / 2
    assert series[5] == (ends.num_series[4] + ends.num_series[5]) / 2
    assert names[11] == (ends.num_names[10] + ends.num_names[11]) / 2


def test_two_requests_by_hand() -> None:
    """a0 runs from 1 to 3, a1 from 2 to 4: {0} at 1 s, {0, 1} at 2 s, {1} at 3 s, {} at 4 s; every part is a second."""
    steps = make_steps([0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0])
    made = make_run([0.0, 1.0], [1.0, 2.0], [3.0, 4.0], adapter=[0, 1], window_s=12.0, steps=steps)
    assert counted(made, with_waiting=False).num_series.tolist() == [1, 2, 3, 4] + [4] * 8
    assert counted(made, with_waiting=False).num_names.tolist() == [1, 3, 4, 4] + [4] * 8


@pytest.mark.parametrize("case", ["no adapters", "base traffic only", "no steps"])
def test_without_adapters_or_steps_there_are_no_series(case: str, run: Run) -> None:
    base = replace(run.requests, adapter=np.full(len(run.requests), -1, dtype=np.int32))
    nobody = AdapterTable((), np.zeros(0, dtype=np.int32), np.zeros(0))
    changed = {
        "no adapters": replace(run, requests=base, adapters=nobody),
        "base traffic only": replace(run, requests=base),
        "no steps": replace(run, steps=None),
    }[case]
    found = metric_series(changed)
    assert found.num_series.tolist() == found.num_names.tolist() == [0.0] * PARTS


def test_what_the_client_sees(run: Run) -> None:
    """The front end's formulas, written out."""
    done, seen = finished_only(run), observe(run, FRONTEND)
    series, names = metric_series(run).mean_over_parts()
    stall = 2e-3 * series + 1e-5 * names
    itl, ttft = itl_mean_s(done), ttft_s(done, side="engine")
    assert seen.tpot_mean_s == pytest.approx(np.nanmean(tpot_s(done)))
    lost = [max(0.0, s - itl) / 0.5 for s in stall]
    assert max(lost) > 0.01
    assert seen.itl_mean_s == pytest.approx(itl / (1 - np.mean(lost)))
    used = len(set(done.requests.adapter))
    late = 4.0 * np.mean(stall**2) / 0.5 + 0.3 * used / len(done.requests)
    assert seen.ttft_mean_s == pytest.approx(ttft.mean() + 0.01 + late)
    assert seen.ttft_median_s == pytest.approx(np.median(ttft) + 0.01)


def test_the_front_end_at_work() -> None:
    stall = np.array([0.0, 0.02, 0.12])
    assert FRONTEND.stall_s(np.array([100.0]), np.array([1000.0])).tolist() == [pytest.approx(0.21)]
    assert FRONTEND.delivery_gap_s(0.02, stall) == pytest.approx(0.02 / (1 - (0.1 / 0.5) / 3))
    assert FRONTEND.delivery_gap_s(0.02, np.full(3, 10.0)) == pytest.approx(0.02 / 0.2)  # bounded
    assert FRONTEND.extra_ttft_s(stall) == pytest.approx(4 * (0.02**2 + 0.12**2) / 3 / 0.5)


def test_nothing_finished_is_nan(tmp_path: Path) -> None:
    [values] = serving_runs(tmp_path, row(rate=0.01, served=1, slots=1, window_s=60))
    profile = profile_for(LLAMA.name)
    workload = values.workload(1.0, seed=0)
    none = replace(
        workload, **{c: getattr(workload, c)[:0] for c in ("arrival_s", "adapter", "prompt_tokens", "output_tokens")}
    )
    seen = observe(simulate(none, profile, values.config), profile.frontend)
    assert np.isnan([seen.ttft_mean_s, seen.ttft_median_s, seen.tpot_mean_s, seen.itl_mean_s]).all()


def test_outputs_of_one_token_have_no_gaps() -> None:
    """TPOT and ITL of such a run are undefined, and that is no error."""
    made = make_run(
        [0.0, 1.0], [0.5, 1.5], [0.5, 1.5], adapter=[0, 1], output=[1, 1], steps=make_steps([0.0, 1.0], [0.5, 0.5])
    )
    seen = observe(made, FRONTEND)
    assert seen.ttft_median_s == pytest.approx(0.51)
    assert np.isnan(seen.tpot_mean_s)
    assert np.isnan(seen.itl_mean_s)
