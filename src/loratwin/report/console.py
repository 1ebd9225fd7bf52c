"""Tables for a terminal, or as text. Names of users are shown as they are, never as markup."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO

from rich.box import ASCII, SIMPLE_HEAD, Box
from rich.console import Console
from rich.text import Text

MOST_NAMES = 8
"""Adapters that a line lists."""


def console(least_width: int) -> Console:
    """Stdout, as wide as the terminal; in a pipe at least so wide."""
    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=least_width)


def as_text(show: Callable[[Console], None], width: int) -> str:
    """What `show` prints, without colours."""
    out = Console(file=StringIO(), width=width, highlight=False, force_terminal=False, color_system=None)
    show(out)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue()


def knows_unicode(out: Console) -> bool:
    """Whether what reads the output can be told ± and ▁."""
    return out.encoding.lower().startswith("utf")


def box(out: Console) -> Box:
    """Lines of a table."""
    return SIMPLE_HEAD if knows_unicode(out) else ASCII


def say(out: Console, line: str, style: str = "") -> None:
    """A line, however long."""
    out.print(Text(line, style=style), soft_wrap=True)


def limited(figure: str, value: float, limit: float) -> Text:
    """A figure that has a limit, and whether it keeps it; an unknown one (NaN) does not."""
    met = value <= limit
    return Text(f"{figure} {'met' if met else 'MISSED'}", "green" if met else "red")
