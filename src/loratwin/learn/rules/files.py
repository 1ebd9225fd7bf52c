"""One page of rules as a file, in the format that its name asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loratwin.errors import InputError
from loratwin.learn.cases.generate import Explored
from loratwin.learn.rules.picture import rules_svg
from loratwin.learn.rules.text import rules_json, rules_markdown, rules_python, rules_text
from loratwin.learn.rules.trees import LearnedRule
from loratwin.records import check_writable, write_atomically

_TEXTS = {".txt": rules_text, ".md": rules_markdown, ".json": rules_json, ".py": rules_python}


def check_rules_path(path: str | Path) -> None:
    """Refuse before long work what `save_rules` would refuse after it.

    Raises
    ------
    InputError
        Another suffix, or it cannot be written.
    """
    check_writable(path)
    if Path(path).suffix not in (*_TEXTS, ".svg"):
        raise InputError(f"{path}: rules are written as {', '.join((*_TEXTS, '.svg'))}")


def save_rules(rules: Sequence[LearnedRule], explored: Sequence[Explored], title: str, path: str | Path) -> Path:
    """Write rules as text, Markdown, JSON, a Python module or a picture.

    Parameters
    ----------
    rules, explored
        What `learn_rules` made, and of what.
    title
        Of the page.
    path
        Ends in .txt, .md, .json, .py or .svg.

    Raises
    ------
    InputError
        As `check_rules_path`.
    """
    check_rules_path(path)
    suffix = Path(path).suffix
    text = rules_svg(rules, explored, title) if suffix == ".svg" else _TEXTS[suffix](rules, title)
    return write_atomically(path, text)
