"""Lists as they are typed: `8,16,32`, `queue=2,kv=0.5`, `sales=gpu-0,gpu-1`; what is none of these is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loratwin.errors import InputError, UnknownNameError


def listed_names(text: str | None) -> list[str]:
    """`a, b` as words, in order; what is empty between commas is left out."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def known_names(kind: str, text: str | None, known: Iterable[str]) -> list[str]:
    """`a,b` as words, all of which must be known; all that are known where nothing is asked for.

    Parameters
    ----------
    kind
        What the words name, for the error.

    Raises
    ------
    UnknownNameError
        One is not known.
    """
    known = list(known)
    if text is None:
        return known
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in known:
            raise UnknownNameError(kind, name, known)
    return names


def numbers_in_turn(option: str, text: str) -> list[int]:
    """`8,16,8` as numbers, each as often as it is given.

    Raises
    ------
    InputError
        Something between the commas is no whole number.
    """
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not _is_whole(part):
            raise InputError(f"{option} {text!r}: expected whole numbers, as 16 or 8,16")
    return [int(part) for part in parts]


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
        if not _is_whole(part):
            raise InputError(f"{option} {part!r}: expected whole numbers, as 16 or 8,16,32")
    return list(dict.fromkeys(int(part) for part in parts))


def numbers_by_name(option: str, text: str) -> dict[str, float]:
    """`queue=2,kv=0.5` as numbers by name.

    Raises
    ------
    InputError
        A part is not NAME=NUMBER.
    """
    numbers: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            numbers[name.strip()] = float(value)
        except ValueError:
            raise InputError(f"{option} {part.strip()!r}: expected NAME=NUMBER, as queue=2,kv=0.5") from None
    return numbers


def percent(what: str, text: str) -> float:
    """`30%` or `30` as a part of a whole.

    Raises
    ------
    InputError
        It is no number.
    """
    try:
        return float(text.strip().removesuffix("%")) / 100
    except ValueError:
        raise InputError(f"{what} {text!r} is not a number of per cent; write 30%") from None


def names_by_name(option: str, texts: Sequence[str], example: str = "sales=gpu-0,gpu-1") -> dict[str, tuple[str, ...]]:
    """`sales=gpu-0,gpu-1`, several of these, as names by name; the example is for the error.

    Raises
    ------
    InputError
        One is not NAME=NAME,..., or a name is given twice.
    """
    names: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, values = text.rpartition("=")
        if not (equals and name and values):
            raise InputError(f"{option} {text!r}: expected NAME=..., as {example}")
        if name in names:
            raise InputError(f"{option}: {name!r} is given twice; say all of it at once")
        names[name] = tuple(value.strip() for value in values.split(",") if value.strip())
    return names


def _is_whole(part: str) -> bool:
    return part.isascii() and part.isdigit()
