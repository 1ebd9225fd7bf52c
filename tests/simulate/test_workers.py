"""Several processes: the same results, errors come through."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import Future
from contextlib import suppress

import pytest
from pydantic import BaseModel, model_serializer
from pydantic_core import PydanticSerializationError

from loratwin.errors import InputError
from loratwin.interrupts import Interrupts
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


def test_an_interrupt_is_never_raised_where_a_future_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """There it would keep the lock, and the thread that hands out tasks would wait for it without end."""
    monkeypatch.setattr(workers, "SPAWN_S", 0.0)
    cancel, harmed, calls = Future.cancel, [], []

    def interrupted(future: Future[object]) -> bool:
        calls.append(future)
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            harmed.append(future)
            raise
        return cancel(future)

    with Workers(square, 2) as two, monkeypatch.context() as here:
        here.setattr(Future, "cancel", interrupted)
        with pytest.raises(KeyboardInterrupt):
            two.map(range(200))
        here.undo()
        assert [value for value, _ in two.map([1, 2, 3])] == [1, 4, 9]
    assert (harmed, len(calls)) == ([], 1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupts_are_kept_until_looked_for() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        reached.append("kept")
        interrupts.check()
        reached.append("not reached")
    assert reached == ["kept"]
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)
        reached.append("seen at the end")
    assert reached[1:] == ["seen at the end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupts_are_seen_at_once_where_they_do_no_harm() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts, interrupts.seen():
        signal.raise_signal(signal.SIGINT)
        reached.append("not reached")
    assert not reached


class Interrupted(BaseModel):
    """Interrupted while it is written: pydantic makes an error of its own of it."""

    @model_serializer
    def _write(self) -> dict[str, str]:
        signal.raise_signal(signal.SIGINT)
        return {}


def swallowed(_: int) -> None:
    """A task that loses the interrupt, as what runs while an object is collected does."""
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_becomes_another_error_is_still_one() -> None:
    with pytest.raises(PydanticSerializationError):
        Interrupted().model_dump()
    with Workers[int, object](lambda _: Interrupted().model_dump()) as one, pytest.raises(KeyboardInterrupt):
        one.map([1, 2])


def test_an_interrupt_that_is_swallowed_is_told_again() -> None:
    with Workers(swallowed) as one, pytest.raises(KeyboardInterrupt):
        one.map([1])


def test_another_thread_may_use_it_too() -> None:
    done = []

    def work() -> None:
        with Interrupts() as interrupts, interrupts.seen():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60.0)
    assert done
