"""Searches for the last value that works, on whole numbers, as generators: they yield what to try and are told how it
went. So many searches can go on at a time, each waiting for its trials."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

Search = Generator[int, bool, int | None]

STEP = 1.05
"""Margins are found on powers of this factor."""

FARTHEST = 32
"""Powers that are tried: from a fifth to 4.8 times the rates."""


def margin_search(works_now: bool) -> Search:
    """The highest power of `STEP` that works, given whether 0 does; None: not even the lowest."""
    good, bad = (0, None) if works_now else (None, 0)
    step = 2
    while good is None or bad is None:
        beyond = min(FARTHEST, max(-FARTHEST, step if works_now else -step))
        if (yield beyond):
            good = beyond
        else:
            bad = beyond
        if abs(beyond) == FARTHEST and (good is None or bad is None):
            return good
        step *= 2
    return (yield from last_good(good, bad))


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
