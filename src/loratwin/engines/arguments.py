"""A server's arguments as its user writes them: read, changed in places, and shown without secrets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from loratwin.errors import InputError

SECRET = ("--api-key", "--admin-api-key", "--hf-token", "--ssl-keyfile-password")
"""Options whose values are shown nowhere."""

HIDDEN = "***"

_MULTIPLIERS = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}


def as_arguments(given: Sequence[str] | str) -> tuple[str, ...]:
    """A list as it is; text is split as a shell would, but no shell sees it.

    Raises
    ------
    InputError
        A quotation does not end.
    """
    if not isinstance(given, str):
        return tuple(given)
    try:
        return tuple(shlex.split(given))
    except ValueError as error:
        raise InputError(f"server arguments {given!r}: {error}") from None


def option(arguments: Sequence[str], *names: str) -> str | None:
    """Value of an option (the last one, as argparse takes it), by any of its names; "" for a flag without value."""
    values = [words for name, words in _options(arguments) if name in names]
    return " ".join(values[-1]) if values else None


def flag(arguments: Sequence[str], name: str) -> bool:
    """Whether a switch is on: `--x` and `--no-x` take each other back, and the last one counts."""
    off = name.replace("--", "--no-", 1)
    given = [word for word, _ in _options(arguments) if word in (name, off)]
    return bool(given) and given[-1] == name


def without(arguments: Sequence[str], *names: str) -> tuple[str, ...]:
    """The arguments but for these options and their values."""
    kept: list[str] = []
    dropping = False
    for word in arguments:
        if _is_option(word):
            dropping = _name(word) in names
        if not dropping:
            kept.append(word)
    return tuple(kept)


def masked(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments with `***` for secrets."""
    shown: list[str] = []
    hiding = False
    for word in arguments:
        if _is_option(word):
            hiding = _name(word) in SECRET
            shown.append(f"{word.partition('=')[0]}={HIDDEN}" if hiding and "=" in word else word)
        else:
            shown.append(HIDDEN if hiding else word)
    return tuple(shown)


def whole_number(text: str, name: str) -> int:
    """A number as vLLM reads it (`human_readable_int`): 8192, 8k = 8,000, 8K = 8,192.

    Raises
    ------
    InputError
        It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgKMG])|(\d+)", text.strip())
    if match is None:
        raise InputError(f"server arguments: {name} {text!r} is no whole number")
    number, unit, plain = match.groups()
    return int(plain) if plain else round(float(number) * _MULTIPLIERS[unit])


def number(text: str, name: str) -> float:
    """A number.

    Raises
    ------
    InputError
        It is none.
    """
    try:
        return float(text)
    except ValueError:
        raise InputError(f"server arguments: {name} {text!r} is no number") from None


def _options(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Each option with the words up to the next one."""
    found: list[tuple[str, list[str]]] = []
    for word in arguments:
        if _is_option(word):
            _, equals, value = word.partition("=")
            found.append((_name(word), [value] if equals else []))
        elif found:
            found[-1][1].append(word)
    return found


def _is_option(word: str) -> bool:
    return re.match(r"--?[A-Za-z]", word) is not None  # and not a negative number


def _name(word: str) -> str:
    """vLLM takes --max_loras for --max-loras."""
    return word.partition("=")[0].replace("_", "-")
