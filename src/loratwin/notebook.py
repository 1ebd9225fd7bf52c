"""How things look in a notebook: small HTML of text only; every name is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import singledispatch
from html import escape


@singledispatch
def title(thing: object) -> str:
    """One line that says what a thing is. Who has the words for a kind of thing registers them: the thing itself may
    stand below them."""
    raise TypeError(f"nobody has words for a {type(thing).__name__}")


@singledispatch
def html(thing: object) -> str:
    """The same as HTML, with what stands behind it."""
    raise TypeError(f"nobody shows a {type(thing).__name__}")


def view(title: str, *parts: str) -> str:
    """A title, and what stands below it (`table`, `lines`)."""
    return f"<div><b>{escape(title)}</b>{''.join(parts)}</div>"


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> str:
    """Rows of cells; the first of each row is its name."""
    head = f"<thead><tr>{_cells(header, 'th')}</tr></thead>" if header else ""
    body = "".join(f"<tr>{_cells(row[:1], 'th')}{_cells(row[1:], 'td')}</tr>" for row in rows)
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _cells(texts: Iterable[str], tag: str) -> str:
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for text in texts)


def lines(texts: Iterable[str]) -> str:
    """Sentences, one below the other; nothing where there are none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""
