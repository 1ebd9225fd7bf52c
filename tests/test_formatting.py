"""Figures as text: one way for all."""

from __future__ import annotations

from math import inf, nan

import pytest

from loratwin.formatting import change, figure, first_of, milliseconds, number, seconds, share, span


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (12, "12"), (12.0, "12"), (0.01234, "0.0123"), (12.345, "12.3"), (123.4, "123"), (999.4, "999"),
        (999.6, "1,000"), (1234.5, "1,234"), (53640.2, "53,640"), (-1234.5, "-1,234"), (-0.5, "-0.5"), (nan, "-"),
        (inf, "inf"), (10_000_000, "10,000,000"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits_or_all_before_the_point(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 ms"), (0.0421, "0.0421 ms"), (84.25, "84.2 ms"), (999.4, "999 ms"), (999.6, "1 s"), (1234.5, "1.23 s"),
        (12_345, "12.3 s"), (208_900, "209 s"), (3_600_000, "3,600 s"), (nan, "-"), (inf, "inf s"),
    ],
)  # fmt: skip
def test_times_are_milliseconds_to_a_second_and_seconds_from_there(value: float, text: str) -> None:
    assert milliseconds(value) == text
    assert seconds(value / 1e3) == text


def test_parts_are_per_cent() -> None:
    assert [share(value) for value in (0.9871, 1.0, 0.99999, 0.0005, nan)] == [
        "98.7 %",
        "100 %",
        "100 %",
        "0.05 %",
        "-",
    ]
    assert [change(value) for value in (0.0123, -0.5, nan)] == ["+1.2 %", "-50.0 %", "-"]
    assert [change(value) for value in (1.99, 2.0, 2675.585)] == ["+199.0 %", "x 3", "x 2,677"]


def test_other_units_stand_behind() -> None:
    assert [figure(1234.5, "tokens/s"), figure(3.456, "/s"), figure(7)] == ["1,234 tokens/s", "3.46/s", "7"]
    assert figure(nan, "tokens/s") == "-"


@pytest.mark.parametrize(
    ("value", "half_width", "unit", "text"),
    [
        (84.256, 1.234, "ms", "84.3 ± 1.2 ms"), (1234.5, 123.4, "ms", "1.23 ± 0.12 s"), (1234.5, 12, "", "1,234 ± 12"),
        (0.9871, 0.0042, "share", "98.71 ± 0.42 %"), (5.0, 0.0, "", "5"), (5.25, nan, "", "5.25"), (nan, 1.0, "", "-"),
    ],
)  # fmt: skip
def test_a_half_width_has_two_digits_and_the_mean_as_many_places(
    value: float, half_width: float, unit: str, text: str
) -> None:
    assert figure(value, unit, half_width) == text
    assert figure(value, unit, half_width, sign="+-").isascii()


def test_intervals_and_lists() -> None:
    assert span(900, 1234.5, "ms") == "900 ms to 1.23 s"
    assert span(812.3, 1044) == "812 to 1,044"
    assert span(0.5, 1, "share") == "50 to 100 %"
    assert span(3.2, 4, "tokens/s") == "3.2 to 4 tokens/s"
    assert span(nan, 4, "ms") == "- to 4 ms"
    assert first_of(["a", "b", "c"], 2) == "a, b and 1 more"
    assert first_of(("a", "b"), 2) == "a, b"
