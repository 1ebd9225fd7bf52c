"""What is sent when: an open loop keeps to its times, a closed loop to its number."""

from array import array

import numpy as np
import pytest

from loratwin.bench.shared.journal import RequestJournal, Shape
from loratwin.bench.worker.feeds import PAUSE_S, ClosedLoop, Conversations, OpenLoop
from loratwin.workload import AdapterGroup, WorkloadSpec, draw


def test_no_drift_over_an_hour_of_schedule_however_late_each_wake_is():
    """On a simulated clock: lateness of one wake must not move the next (relative sleeps lose 15 % at 1,000/s)."""
    spec = WorkloadSpec(window_s=3600, groups=[AdapterGroup(name="a", count=4, rate=50)])
    due = draw(spec, 1).arrival_s
    feed, rng, lag, row = OpenLoop(array("d", due.tobytes())), np.random.default_rng(2), [], 0
    at = feed.start()
    while at is not None:
        now = at + rng.exponential(0.002)
        while feed.next_due(now) == row:
            lag.append(now - due[row])
            row += 1
        at = feed.when()
    assert row == len(due)
    lags = np.array(lag)
    assert (lags >= 0).all()
    early, late = lags[: len(lags) // 10], lags[-len(lags) // 10 :]
    assert late.mean() == pytest.approx(early.mean(), rel=0.1)


def test_nothing_is_sent_before_its_time_and_nothing_twice():
    feed = OpenLoop(array("d", [1.0, 2.0, 2.0]))
    assert feed.start() == 1.0
    assert [feed.next_due(0.5), feed.next_due(1.0), feed.next_due(1.5)] == [-1, 0, -1]
    assert [feed.next_due(2.5), feed.next_due(2.5), feed.next_due(2.5)] == [1, 2, -1]
    assert feed.when() is None


def test_an_empty_schedule_has_no_start():
    assert OpenLoop(array("d")).start() is None


@pytest.fixture
def journal(tmp_path):
    made = RequestJournal.create(tmp_path, Shape(5, 1, 1))
    made.counters[0] = 5
    return made


def test_a_closed_loop_keeps_its_number_in_flight(journal):
    loop = ClosedLoop(2, 10.0, journal)
    assert [loop.next_due(9.0)] == [-1]
    assert [loop.next_due(10.0) for _ in range(3)] == [0, 1, -1]
    assert loop.when() is None
    loop.ended(0, 11.0, failed=False)
    assert loop.when() == 11.0
    assert [loop.next_due(11.0), loop.next_due(11.0)] == [2, -1]
    assert list(journal.array("scheduled_s")[:3]) == [10.0, 10.0, 11.0]


def test_a_closed_loop_pauses_after_a_failure(journal):
    loop = ClosedLoop(1, 0.0, journal)
    loop.next_due(0.0)
    loop.ended(0, 1.0, failed=True)
    assert loop.next_due(1.0) == -1
    assert loop.next_due(1.0 + PAUSE_S) == 1


def test_a_turn_is_due_when_the_one_before_has_ended_and_thought(journal):
    """Row 2 follows row 0, row 4 row 2; rows 1 and 3 have times of their own, and row 3's follower never comes."""
    never = float("nan")
    feed = Conversations([1.0, 2.0, never, 3.0, never], {0: (2, 5.0), 2: (4, 0.5)}, journal)
    assert feed.start() == 1.0
    assert [feed.next_due(2.5) for _ in range(3)] == [0, 1, -1]
    feed.ended(0, 2.6, failed=False)
    feed.ended(1, 2.7, failed=False)
    assert feed.when() == 3.0
    assert [feed.next_due(8.0), feed.next_due(8.0), feed.when()] == [3, 2, None]
    feed.ended(2, 9.0, failed=True)
    assert feed.when() is None and not feed.exhausted, "a conversation is over with its first failure"
    assert journal.array("scheduled_s")[2] == pytest.approx(7.6)


def test_a_closed_loop_ends_with_its_rows_unless_there_are_more(journal):
    loop = ClosedLoop(9, 0.0, journal)
    assert [loop.next_due(0.0) for _ in range(6)] == [0, 1, 2, 3, 4, -1]
    assert loop.exhausted

    def more():
        journal.counters[0] += 1

    journal.grow()
    loop = ClosedLoop(9, 0.0, journal, more)
    assert [loop.next_due(0.0) for _ in range(9)] == list(range(9))
    assert not loop.exhausted
