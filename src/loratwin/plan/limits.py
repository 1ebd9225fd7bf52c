"""Searches for the last value that works, on whole numbers, as generators: they yield what to try and are told how it
went. So many searches can go on at a time, each waiting for its trials."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from math import floor, log

Search = Generator[int, bool, int | None]

STEP = 1.05
"""Margins are found on powers of this factor."""

FARTHEST = 32
"""Powers that are tried: from a fifth to 4.8 times the rates."""


def margin_search(works_now: bool, good: int | None = None, bad: int | None = None, near: int | None = None) -> Search:
    """The highest power of `STEP` that works, given whether 0 does; None: not even the lowest.

    Parameters
    ----------
    good, bad
        Powers known to work and to fail; None: none is.
    near
        Where the answer is likely to be: two trials tell if it is there, a few more if it is close.
    """
    low, high = (max(0, good or 0), FARTHEST + 1) if works_now else (-FARTHEST - 1, 0)
    if bad is not None:
        high = max(low + 1, min(high, bad))
    step = 2 if near is None else 1
    at = near if near is not None else low + step if works_now else high - step
    went_up = works_now if near is None else None
    while high - low > 1:
        at = min(max(at, low + 1), high - 1)
        works = yield at
        low, high = (at, high) if works else (low, at)
        if went_up not in (None, works):
            break
        went_up, at, step = works, at + (step if works else -step), 2 * step
    last = yield from last_good(low, high)
    return None if last == -FARTHEST - 1 else last


def power_below(factor: float) -> int:
    """The highest power of `STEP` that is at most a factor."""
    return floor(log(factor) / log(STEP) + 1e-9)


def last_good(good: int, bad: int, resolution: float = 0.0) -> Search:
    """Bisection: the highest value found to work, next to the lowest found not to, or a share `resolution` below it."""
    while bad - good > max(1.0, resolution * bad):
        middle = (good + bad) // 2
        if (yield middle):
            good = middle
        else:
            bad = middle
    return good


def run_all(searches: Sequence[Search], try_all: Callable[[list[tuple[int, int]]], list[bool]]) -> list[int | None]:
    """Carry all searches out, in rounds: `try_all` gets (number of the search, value) of each that goes on."""
    ends: list[int | None] = [None] * len(searches)
    answers: dict[int, bool | None] = dict.fromkeys(range(len(searches)))
    while answers:
        asked: list[tuple[int, int]] = []
        for i, answer in answers.items():
            try:
                value = next(searches[i]) if answer is None else searches[i].send(answer)
                asked.append((i, value))
            except StopIteration as end:
                ends[i] = end.value
        results = try_all(asked) if asked else []
        answers = {i: result for (i, _), result in zip(asked, results, strict=True)}
    return ends
