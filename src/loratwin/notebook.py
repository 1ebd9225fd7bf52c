"""How things look in a notebook: small HTML of text only; every name is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


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
