"""Values of options that several commands take."""

from __future__ import annotations

from collections.abc import Sequence

from loratwin.errors import InputError


def whole_numbers(option: str, texts: str | Sequence[str]) -> list[int]:
    """`8,16`, or several of these, as numbers, each once, in the order given.

    Raises
    ------
    InputError
        Something between the commas is no whole number.
    """
    texts = [texts] if isinstance(texts, str) else texts
    parts = [part.strip() for text in texts for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdigit()):
            raise InputError(f"{option} {part!r}: expected whole numbers, as 16 or 8,16,32")
    return list(dict.fromkeys(int(part) for part in parts))
