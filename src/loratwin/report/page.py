"""What all pages share: templates that escape every name, and figures as words."""

from __future__ import annotations

from math import isnan

from jinja2 import Environment, PackageLoader, StrictUndefined

from loratwin.plan.words import duration, margin_text


def environment() -> Environment:
    """Templates of this package; what is not defined is an error, and every value is escaped."""
    made = Environment(
        loader=PackageLoader("loratwin.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(duration=duration, count=count_text, share=share_text, margin=margin_text)
    return made


def count_text(value: float) -> str:
    """`1,234`; a dash where it is unknown."""
    return "–" if isnan(value) else f"{value:,.0f}"


def share_text(value: float) -> str:
    """`98.7 %`; a dash where it is unknown."""
    if isnan(value):
        return "–"
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%" if value < 0.9995 else "100\N{NO-BREAK SPACE}%"
