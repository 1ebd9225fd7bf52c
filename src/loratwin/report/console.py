"""Tables for a terminal, or as text. Names of users are shown as they are, never as markup."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import StringIO

from rich.box import ASCII, SIMPLE_HEAD, Box
from rich.console import Console
from rich.table import Table
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


def print_adapters(
    out: Console,
    title: str,
    names: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    marks: Sequence[Text],
    spare: Sequence[str] = (),
) -> None:
    """A line for each adapter; headings and figures are whole, whatever the width.

    Parameters
    ----------
    columns
        Cells by heading, a line for each of its words.
    marks
        What is to be said of each, without a heading.
    spare
        Headings that a terminal which is too narrow for all does without, the first of them first; this is said.
    """
    longest = max((len(word) for mark in marks for word in mark.plain.split()), default=0)
    least = min(_NAME, max(map(len, names), default=0))
    room = out.width - least - _GAP - (longest + _GAP if longest else 0)
    shown = dict(columns)
    for heading in spare:
        if _width(shown) > room:
            shown.pop(heading, None)
    table = Table(title=Text(title), title_justify="left", box=box(out), pad_edge=False)
    table.add_column("adapter", overflow="fold", min_width=least)
    for heading in shown:
        table.add_column(Text("\n".join(heading.split())), justify="right", no_wrap=True)
    if longest:
        table.add_column("", min_width=longest)
    for i, name in enumerate(names):
        table.add_row(Text(name), *(cells[i] for cells in shown.values()), *([marks[i]] if longest else ()))
    out.print(table)
    if gone := [heading for heading in columns if heading not in shown]:
        say(out, f"left out, for a wider terminal or --csv FOLDER: {', '.join(gone)}")


_NAME, _GAP = 12, 3
"""Characters that an adapter's name has at least, before it goes on in a further line; those between columns."""


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    return sum(_GAP + max(map(len, [*heading.split(), *cells])) for heading, cells in columns.items())


def limited(figure: str, value: float, limit: float) -> Text:
    """A figure that has a limit, and whether it keeps it; an unknown one (NaN) does not."""
    met = value <= limit
    return Text(f"{figure} {'met' if met else 'MISSED'}", "green" if met else "red")
