"""Figures as text: the same figure is the same text in every command, report and sentence.

Three digits, all those before the point, and the unit that keeps them short: `84.3 ms`, `1.23 s`, `12,345`, `98.7 %`.
Who needs every digit takes the JSON.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
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


SLOTS = "slots: places for adapters in the GPU's memory, --max-loras of the server"
"""What stands below tables that have them."""

REAL_RUN = "other requests, coefficients within their errors, and the profile's errors on held-out runs"
"""What a forecast, and the chance that a limit is kept, are made of: they are of one real run, not of a mean."""


def slots_text(count: int) -> str:
    """`8 slots`."""
    return f"{count} slot{'' if count == 1 else 's'}"


def plus_minus_text(level: float, sign: str = "±") -> str:
    """What the half-widths of a table of means are."""
    return (
        f"{sign}: {share(level)} confidence of the mean over draws of the workload; the twin's own error is not in it"
    )


WIDTH = 80
"""Characters of a line, unless a terminal is wider."""

_BREAKS = re.compile(r"(?<=, )|(?<= )(?=\()|(?<=/)(?=\w{3})")
"""Where a cell may go on in the next line: after a comma, before a bracket, within a profile's name."""

_SPACES = re.compile(rf"{_BREAKS.pattern}|(?<= )")
"""Where else, if that is not enough."""


def aligned(rows: Sequence[Sequence[str]], left: int = 0, width: int = WIDTH) -> str:
    """Cells in columns; where lines were too long, the longest cells go on below.

    Parameters
    ----------
    rows
        As many cells each, headings first.
    left
        So many of the first columns begin at the left; the others end at the right.
    width
        Most characters of a line, unless a single word is longer.
    """
    widths = _fitting([[row[i] for row in rows] for i in range(len(rows[0]))], width)
    lines = (
        "  ".join(part.ljust(widths[i]) if i < left else part.rjust(widths[i]) for i, part in enumerate(parts))
        for row in rows
        for parts in zip_longest(*map(_folded, row, widths), fillvalue="")
    )
    return "\n".join(line.rstrip() for line in lines)


def _fitting(columns: Sequence[Sequence[str]], width: int) -> list[int]:
    """A width for each column: that of its cells, the widest less where all are too wide together."""
    widths = [max(map(len, cells)) for cells in columns]
    for of_headings, of_cells in ((_BREAKS, _BREAKS), (_SPACES, _BREAKS), (_SPACES, _SPACES)):
        least = [
            max(_longest(heading, of_headings), *(_longest(cell, of_cells) for cell in cells), 0)
            for heading, *cells in columns
        ]
        while sum(widths) + 2 * (len(widths) - 1) > width:
            open_columns = [i for i in range(len(widths)) if widths[i] > least[i]]
            if not open_columns:
                break
            widths[max(open_columns, key=widths.__getitem__)] -= 1
    return widths


def _longest(cell: str, breaks: re.Pattern[str]) -> int:
    return max(len(part.rstrip()) for part in breaks.split(cell))


def _folded(cell: str, width: int) -> list[str]:
    """A cell in lines of at most so many characters."""
    lines = [""]
    for breaks in (_BREAKS, _SPACES):
        lines = [""]
        for part in breaks.split(cell):
            if lines[-1] and len(lines[-1] + part.rstrip()) > width:
                lines.append("")
            lines[-1] += part
        if max(len(line.rstrip()) for line in lines) <= width:
            break
    return [line.rstrip() for line in lines]
