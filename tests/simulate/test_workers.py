"""Several processes: the same results, errors come through."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from loratwin.errors import InputError
from loratwin.simulate import workers
from loratwin.simulate.workers import Workers


def square(x: int) -> tuple[int, int]:
    if x < 0:
        raise InputError("negative")
    return x * x, os.getpid()


def test_results_are_in_order_however_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SPAWN_S", 0.0)
    counts: list[int] = []
    with Workers(square, 2) as two:
        here = os.getpid()
        found = two.map(range(200), counts.append)
        more = two.map([1, 2, 3])
        with pytest.raises(InputError, match="negative"):
            two.map([1, 2, -1, 4])
    assert [value for value, _ in found] == [x * x for x in range(200)]
    assert [value for value, _ in more] == [1, 4, 9]
    assert len({process for _, process in found} - {here}) <= 1
    assert found[-1][1] == here  # which works from the end, all the while that the other one starts
    assert counts == sorted(counts)
    assert counts[-1] == 200


def test_what_is_quick_stays_here() -> None:
    with Workers(square, 8) as many:
        assert {process for _, process in many.map(range(100))} == {os.getpid()}
        assert many.map([]) == []


def test_an_interrupt_while_processes_start_comes_afterwards() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), workers._interrupts_later():
        signal.raise_signal(signal.SIGINT)
        reached.append(True)
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_may_use_it_too() -> None:
    done = []

    def work() -> None:
        with workers._interrupts_later():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
