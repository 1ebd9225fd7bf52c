"""What all pages share: templates that escape every name, and figures as text that is not broken between two lines."""

from __future__ import annotations

from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from loratwin import formatting
from loratwin.plan.sentences import margin_text

NBSP = "\N{NO-BREAK SPACE}"


class HeadlineFigure(NamedTuple):
    """One figure at the top of a page."""

    label: str
    value: str
    detail: str
    source: str  # simulated, assumed, measured


def environment() -> Environment:
    """Templates of this package; what is not defined is an error, and every value is escaped."""
    made = Environment(
        loader=PackageLoader("loratwin.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(duration=milliseconds, count=formatting.number, share=share, margin=margin_text)
    return made


def figure(value: float, unit: str = "") -> str:
    """A figure with its unit, as everywhere, in one line."""
    return formatting.figure(value, unit).replace(" ", NBSP)


def milliseconds(value: float) -> str:
    """A time given in milliseconds."""
    return figure(value, "ms")


def share(value: float) -> str:
    """A part of a whole, as per cent."""
    return figure(value, "share")
