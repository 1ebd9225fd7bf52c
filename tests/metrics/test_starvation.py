"""Starvation: of a run, by either sign; of an adapter, and when not to call it so."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loratwin.metrics import missing, per_adapter, queue_grows, starvation, waiting_over_time
from loratwin.metrics.starvation import _before
from loratwin.records import Run
from tests.metrics.runs import NEVER, make_run


def served(times: np.ndarray, delay_s: np.ndarray | float, window_s: float = 1000.0) -> Run:
    """Requests of equal length that wait `delay_s` and run for one second."""
    admitted = times + delay_s
    lists = [column.tolist() for column in (times, admitted + 0.5, admitted + 1.0, admitted)]
    return make_run(lists[0], first=lists[1], finish=lists[2], admitted=lists[3], window_s=window_s)


@pytest.mark.parametrize(("num_finished", "starved"), [(91, False), (90, True), (0, True)])
def test_the_papers_definition(num_finished: int, starved: bool) -> None:
    finish = [5.0] * num_finished + [NEVER] * (100 - num_finished)
    verdict = starvation(make_run([0.0] * 100, first=finish, finish=finish))
    assert verdict.ratio == pytest.approx(num_finished / 100)
    assert verdict.by_throughput is starved


@pytest.mark.parametrize("client", [True, False])
def test_what_is_on_its_way_when_a_short_window_ends_is_not_lost(client: bool) -> None:
    """Ten requests a second, each served at once and for 8 s, seen for 20 s: two fifths are unfinished."""
    came = np.arange(0, 20, 0.1)

    def measured(delay_s: float | np.ndarray) -> Run:
        first = came + delay_s + 0.5
        finish = np.where((end := first + 7.5) <= 20, end, np.nan)
        admitted = np.full(len(came), np.nan) if client else first - 0.5
        return make_run(
            came.tolist(), first=first.tolist(), finish=finish.tolist(), admitted=admitted.tolist(), window_s=20.0
        )

    prompt = starvation(measured(0.0))
    assert prompt.ratio == pytest.approx(0.6, abs=0.01)
    assert not prompt.by_throughput and not prompt.starved
    assert starvation(measured(0.15 * came)).by_throughput  # they wait ever longer: some should have finished by then


def test_nothing_offered_is_not_starved() -> None:
    verdict = starvation(make_run([]))
    assert math.isnan(verdict.ratio)
    assert (verdict.starved, verdict.reason) == (False, "")


def test_waiting_counts_who_came_and_was_neither_admitted_nor_refused() -> None:
    run = make_run(
        [0.0, 1.0, 2.0, 3.0], admitted=[0.5, 6.0, NEVER, NEVER], refused=[False, False, False, True], window_s=12.0
    )
    waiting = waiting_over_time(run)  # sampled every 0.05 s
    assert [waiting[int(time / 0.05)] for time in (0.2, 0.7, 1.5, 3.5, 7.0)] == [1, 0, 1, 2, 1]


def test_a_client_takes_the_first_token_for_the_admission() -> None:
    run = make_run([0.0, 0.0], first=[6.0, NEVER], finish=[7.0, NEVER], window_s=12.0)
    assert waiting_over_time(run)[[0, -1]].tolist() == [2, 1]


TIMES = np.arange(0, 1000, 0.1)  # 10,000 requests


def test_a_server_that_falls_behind_by_five_per_cent_has_a_growing_queue() -> None:
    verdict = starvation(served(TIMES, 0.05 * TIMES))
    assert not verdict.by_throughput
    assert (verdict.by_queue, verdict.starved, verdict.reason) == (True, True, "growing queue")


@pytest.mark.parametrize(
    ("case", "delay_s"),
    [
        ("long but steady", np.full(len(TIMES), 30.0)),
        ("a burst that is over", np.where((TIMES > 300) & (TIMES < 500), 60.0, 0.0)),
        ("fills in the first quarter", np.minimum(TIMES, 200) * 0.1),
        ("grows by 125, while chance may well add 141", TIMES * 0.025),
    ],
)
def test_a_queue_that_is_only_long_does_not_grow(case: str, delay_s: np.ndarray) -> None:
    assert not queue_grows(served(TIMES, delay_s)), case


@pytest.mark.parametrize(
    ("case", "quarters"),
    [("falls again in the last quarter", (0.0, 10.0, 60.0, 30.0)), ("was gone in the third", (0.0, 10.0, 0.0, 30.0))],
)
def test_every_quarter_counts(case: str, quarters: tuple[float, ...]) -> None:
    """From the second to the fourth quarter the queue takes in 200 requests, which alone would be growth."""
    delay_s = np.array(quarters)[(TIMES // 250).astype(int)]
    assert not queue_grows(served(TIMES, delay_s)), case
    steady_growth = np.array([0.0, 10.0, 20.0, 30.0])[(TIMES // 250).astype(int)]
    assert queue_grows(served(TIMES, steady_growth))


def test_chance_is_no_growth() -> None:
    """A queue near saturation wanders; ten requests more among 200 arrivals are less than two standard deviations."""
    times = np.arange(0, 1000, 5.0)
    assert not queue_grows(served(times, times * 0.1))
    assert queue_grows(served(times, times * 0.4))


def test_deep_overload_shows_both_signs() -> None:
    verdict = starvation(served(TIMES, TIMES))
    assert verdict.reason == "throughput and growing queue"


# --- single adapters: a window of 100 s, so that "a tenth of the window" is 10 s


def starved_adapters(arrival: list[float], finish: list[float], adapter: list[int], **more: object) -> list[bool]:
    run = make_run(arrival, first=finish, finish=finish, admitted=arrival, adapter=adapter, window_s=100.0, **more)  # type: ignore[arg-type]
    return per_adapter(run).starved.tolist()


def test_one_of_three_unfinished_at_the_end_is_not_starved() -> None:
    assert starved_adapters([0.0, 50.0, 95.0], [1.0, 51.0, NEVER], [0, 0, 0]) == [False, False]


def test_one_of_three_left_behind_is() -> None:
    assert starved_adapters([0.0, 50.0, 80.0], [1.0, NEVER, 81.0], [0, 0, 0]) == [True, False]


def test_a_request_may_take_as_long_as_requests_take() -> None:
    """Finished requests needed up to 40 s from admission: one that came 30 s before the end may still be running."""
    assert starved_adapters([0.0, 10.0, 70.0], [40.0, 50.0, NEVER], [0, 0, 0]) == [False, False]


def test_refused_requests_are_missing() -> None:
    finish = [1.0, NEVER, NEVER]
    assert starved_adapters([0.0, 98.0, 99.0], finish, [0, 1, 0], refused=[False, True, False]) == [False, True]


def test_losing_less_than_a_tenth_is_not_starved() -> None:
    arrival = [float(time) for time in range(20)]
    finish = [time + 1.0 for time in arrival]
    finish[5] = NEVER
    assert starved_adapters(arrival, finish, [0] * 20) == [False, False]
    finish[6] = NEVER
    assert starved_adapters(arrival, finish, [0] * 20) == [True, False]


def test_missing_when_nothing_finished_at_all() -> None:
    run = make_run([0.0, 95.0], window_s=100.0)
    assert missing(run).tolist() == [True, False]


@pytest.mark.parametrize("window_s", [1.0, 7.3, 3600.0, 1e5 / 3])
def test_counting_before_the_ends_is_a_search_in_the_sorted_times(window_s: float) -> None:
    ends_s = np.multiply(window_s / 240, np.arange(1, 241), dtype=np.float64)
    rng = np.random.default_rng(0)
    near = np.concatenate([np.nextafter(ends_s, 0), ends_s, np.nextafter(ends_s, np.inf)])
    times_s = rng.permutation(np.concatenate([near, [-0.5, 0.0, 2 * window_s], rng.uniform(0, window_s, 5_000)]))
    assert _before(times_s, ends_s).tolist() == np.searchsorted(np.sort(times_s), ends_s).tolist()
    assert _before(np.zeros(0), ends_s).tolist() == [0] * 240
