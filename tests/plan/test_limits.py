"""The searches on whole numbers, against trying everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loratwin.plan.limits import FARTHEST, Search, last_good, margin_search, run_all


def found(search: Search, limit: int, asked: list[int] | None = None) -> int | None:
    """Run one search where everything up to `limit` works."""

    def try_all(values: list[tuple[int, int]]) -> list[bool]:
        if asked is not None:
            asked.extend(value for _, value in values)
        return [value <= limit for _, value in values]

    return run_all([search], try_all)[0]


@given(st.integers(-FARTHEST - 5, FARTHEST + 5))
def test_the_margin_is_the_last_power_that_works(limit: int) -> None:
    asked: list[int] = []
    result = found(margin_search(limit >= 0), limit, asked)
    assert result == (None if limit < -FARTHEST else min(limit, FARTHEST))
    assert len(asked) <= 10
    assert 0 not in asked  # known already


@given(st.integers(1, 2000), st.data())
def test_bisection_finds_the_last_that_works(total: int, data: st.DataObject) -> None:
    limit = data.draw(st.integers(0, total - 1))
    assert found(last_good(0, total), limit) == limit


@given(st.integers(1, 2000), st.data())
def test_a_resolution_is_kept(total: int, data: st.DataObject) -> None:
    limit = data.draw(st.integers(0, total - 1))
    result = found(last_good(0, total, 1 / 64), limit)
    assert result is not None
    assert limit - max(1, limit / 32) <= result <= limit
    assert result > 0 or limit == 0  # whether even one works is found exactly


def test_many_searches_go_on_at_a_time() -> None:
    rounds: list[list[int]] = []

    def try_all(asked: list[tuple[int, int]]) -> list[bool]:
        rounds.append([i for i, _ in asked])
        return [value <= (3, 40, 7)[i] for i, value in asked]

    assert run_all([last_good(0, 4), last_good(0, 100), last_good(0, 8)], try_all) == [3, 40, 7]
    assert rounds[0] == [0, 1, 2]
    assert rounds[-1] == [1]


def test_without_searches_nothing_is_tried() -> None:
    assert run_all([], lambda asked: [True]) == []
