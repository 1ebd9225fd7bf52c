"""A pure function on many tasks and several cores. What comes out does not depend on how many."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from loratwin.interrupts import Interrupts

Task = TypeVar("Task")
Result = TypeVar("Result")

Progress = Callable[[int], None]
"""Is told how many tasks are done."""

SPAWN_S = 2.0
"""Work that a further process must save before it is worth starting: it imports everything anew."""

WAIT_S = 0.2
"""Until Ctrl-C is looked for again, where a task of another process is waited for."""


def silent(done: int) -> None:
    """A progress that nobody watches."""


_function: Callable[[Any], Any]


def _install(function: Callable[[Any], Any]) -> None:
    """In a new process: keep what all tasks need, so that it travels once; leave Ctrl-C to the first process."""
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _call(task: Any) -> Any:
    return _function(task)


_Given = TypeVar("_Given", contravariant=True)
_Found = TypeVar("_Found")


class Mapper(Protocol, Generic[_Given, _Found]):
    """What calls a pure function on many tasks, wherever."""

    def map(self, tasks: Sequence[_Given], done: Progress = ...) -> list[_Found]:
        """The results, in the order of the tasks; `done` is told how many there are so far."""


class Workers(Generic[Task, Result]):
    """Calls one function on many tasks, in this process and in `processes - 1` further ones.

    The function must be pure; it is sent to each process once, the tasks one by one. The first task of each list runs
    here, so that the kernel is compiled once and it is known whether further processes pay. They are started by *spawn*
    (safe beside threads) and do not see Ctrl-C: it ends this process, which lets them finish what they are at.
    """

    def __init__(
        self, function: Callable[[Task], Result], processes: int = 1, executor: Executor | None = None
    ) -> None:
        """See above.

        Parameters
        ----------
        executor
            Where all tasks run instead, as a cluster's; it is not shut down.
        """
        self.function = function
        self.processes = processes
        self.executor = executor
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers[Task, Result]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, tasks: Sequence[Task], done: Progress = silent) -> list[Result]:
        """The results, in the order of the tasks; `done` is told how many there are so far."""
        if not tasks:
            return []
        if self.executor is not None:
            return list(_counted(self.executor.map(self.function, tasks), done))
        with Interrupts() as interrupts:
            start = time.monotonic()
            first = self._here(tasks[0], interrupts)
            done(1)
            rest = tasks[1:]
            if self._pays(len(rest), time.monotonic() - start):
                return [first, *self._together(rest, done, interrupts)]
            results = [first]
            for task in rest:
                results.append(self._here(task, interrupts))
                done(len(results))
            return results

    def _here(self, task: Task, interrupts: Interrupts) -> Result:
        """The result of a task in this process."""
        with interrupts.seen():
            return self.function(task)

    def _pays(self, num_tasks: int, task_s: float) -> bool:
        if self.processes < 2 or not num_tasks:
            return False
        return self._pool is not None or num_tasks * task_s > SPAWN_S

    def _together(self, tasks: Sequence[Task], done: Progress, interrupts: Interrupts) -> list[Result]:
        """The other processes begin at the front, this one takes from the back what they have not begun."""
        futures = self._submit(tasks, interrupts)
        here: dict[int, Result] = {}
        ended = 0  # futures from the front, which end about in their order: none is asked again and again
        for i in reversed(range(len(tasks))):
            if not futures[i].cancel():
                break
            here[i] = self._here(tasks[i], interrupts)
            while ended < i and futures[ended].done():
                ended += 1
            done(1 + ended + len(here))
        results = []
        for i, future in enumerate(futures[: len(tasks) - len(here)]):
            results.append(_result(future, interrupts))
            done(1 + max(ended, i + 1) + len(here))
        return results + [here[i] for i in sorted(here)]

    def _submit(self, tasks: Sequence[Task], interrupts: Interrupts) -> list[Future[Result]]:
        """Hand over all tasks; interrupts wait only for the first of them, which start the processes."""
        starting = self.processes - 1
        with _blocked():
            if self._pool is None:
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(starting, context, _install, (self.function,))
            futures = [self._pool.submit(_call, task) for task in tasks[:starting]]
        for task in tasks[starting:]:
            interrupts.check()
            futures.append(self._pool.submit(_call, task))
        return futures


def _result(future: Future[Result], interrupts: Interrupts) -> Result:
    """What a task of another process gave; interrupts are seen while it is waited for."""
    while not wait([future], WAIT_S).done:
        interrupts.check()
    return future.result()


def _counted(results: Iterable[Result], done: Progress) -> Iterator[Result]:
    """The same, and how many there are so far."""
    for number, result in enumerate(results, 1):
        done(number)
        yield result


@contextmanager
def _blocked() -> Iterator[None]:
    """Processes started within do not see Ctrl-C: they inherit the signal as blocked."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starts a process of its own and then unblocks the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
