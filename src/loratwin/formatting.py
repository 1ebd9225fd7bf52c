"""Figures as text: the same figure is the same text in every command, report and sentence.

Three digits, all those before the point, and the unit that keeps them short: `84.3 ms`, `1.23 s`, `12,345`, `98.7 %`.
Who needs every digit takes the JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, isinf, isnan, log10

DIGITS = 3

UNKNOWN = "-"

FACTOR_FROM = 3
"""Ratio from which a change is said as a factor: nobody reads +267558.5 %."""


def number(value: float) -> str:
    """A number without a unit; a dash where it is unknown (NaN)."""
    if isnan(value):
        return UNKNOWN
    if isinf(value):
        return f"{value:g}"
    if abs(value) >= 10**DIGITS - 0.5 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.{DIGITS}g}"


def figure(value: float, unit: str = "", half_width: float = float("nan"), sign: str = "±") -> str:
    """A figure with its unit, and with its half-width where there is one.

    Parameters
    ----------
    unit
        `ms` (seconds from a second on), `share` (0 to 1, as per cent), or any other word, which stands behind it.
    half_width
        In the unit of the value: shown to two digits, and the value to as many places; NaN or 0: not shown.
    sign
        Between the two, for terminals that know no `±`.
    """
    if isnan(value):
        return UNKNOWN
    scale, suffix = _scale(value, unit)
    if isnan(half_width) or half_width == 0:
        return f"{number(value * scale)}{suffix}"
    value, half_width = value * scale, half_width * scale
    places = max(0, 1 - floor(log10(half_width)))
    return f"{value:,.{places}f} {sign} {half_width:,.{places}f}{suffix}"


def _scale(value: float, unit: str) -> tuple[float, str]:
    """What to multiply a value with, and what to write behind it."""
    if unit == "ms":
        return (1e-3, " s") if abs(value) >= 10**DIGITS - 0.5 else (1.0, " ms")
    if unit == "share":
        return 100.0, " %"
    return 1.0, f" {unit}" if unit and not unit.startswith("/") else unit


def milliseconds(value: float) -> str:
    """A time given in milliseconds: `84.3 ms`, `1.23 s`."""
    return figure(value, "ms")


def seconds(value: float) -> str:
    """A time given in seconds, in the same way."""
    return milliseconds(1e3 * value)


def share(value: float) -> str:
    """A part of a whole, 0 to 1, as per cent: `98.7 %`."""
    return figure(value, "share")


def change(relative: float) -> str:
    """How far one figure is from another, relative to it: `+1.2 %`; from three times as much on `x 3.46`."""
    if isnan(relative):
        return UNKNOWN
    return f"{100 * relative:+.1f} %" if relative < FACTOR_FROM - 1 else f"x {number(1 + relative)}"


def span(low: float, high: float, unit: str = "") -> str:
    """An interval: `812 to 1,044 tokens/s`, `900 ms to 1.2 s`."""
    ends = [figure(value, unit) for value in (low, high)]
    suffixes = [_scale(value, unit)[1] for value in (low, high)]
    if suffixes[0] == suffixes[1]:
        ends[0] = ends[0].removesuffix(suffixes[0])
    return " to ".join(ends)


def first_of(names: Sequence[str], most: int) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def chance_text(chance: float) -> str:
    """A probability in whole per cent, never 0 or 100: `97 %`, `more than 99 %`; empty when it was not searched."""
    if isnan(chance):
        return ""
    if chance >= 0.995:
        return "more than 99 %"
    return "less than 1 %" if chance < 0.005 else f"{100 * chance:.0f} %"
