"""What pydantic refuses, in one line: where, which value, what would be right, and how many problems more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

REFUSED = "refused"
"""Type of our own errors about one key of a model; `workload.strict.refusal` makes them."""


def one_line(error: ValidationError, data: Any, source: str, known: Sequence[str] = ()) -> str:
    """First problem of a validation error: source, key path, value, what would be valid, how many more.

    Parameters
    ----------
    data
        What was validated; None: not at hand, as where keys were put together from other ones.
    source
        Where it is from, as a file name: begins the line.
    known
        Keys of the model, to be listed where one is not known.
    """
    problems = error.errors(include_url=False)
    first = _first(problems)
    path, value = _locate(first["loc"], first, data)
    if first["type"] == "union_tag_invalid" and isinstance(value, Mapping):
        path, value = _join(path, "kind"), value.get("kind")
    if first["type"] == REFUSED:
        key = first["ctx"]["key"]
        path = _join(path, key) if key else path
        value = value.get(key) if isinstance(value, Mapping) else None
    shown = f" = {_short(value)}" if isinstance(value, (int, float, str, Path)) else ""
    more = f" (+{len(problems) - 1} more)" if len(problems) > 1 else ""
    said = _unknown_key(first, problems, known) if first["type"] == "extra_forbidden" else _plain(first)
    return f"{source}: {path}{shown}: {said}{more}" if path else f"{source}: {said}{more}"


def did_you_mean(name: object, known: Sequence[str] | Mapping[str, Any]) -> str:
    """``; did you mean 'rate'? Valid: ...``."""
    options = list(known)
    close = get_close_matches(str(name), options, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} valid: {', '.join(options)}"


def _first(problems: Sequence[Any]) -> Any:
    """An unknown key before one that is missing, for which it may be meant."""
    return next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])


def _unknown_key(first: Any, problems: Sequence[Any], known: Sequence[str]) -> str:
    key = str(first["loc"][-1])
    missing = [str(problem["loc"][-1]) for problem in problems if _is_missing_beside(problem, first)]
    close = get_close_matches(key, missing, n=1)
    if close:
        return f"unknown key; {close[0]} is missing, was that meant?"
    return f"unknown key{did_you_mean(key, known) if known else ''}"


def _is_missing_beside(problem: Any, first: Any) -> bool:
    return bool(problem["type"] == "missing" and problem["loc"][:-1] == first["loc"][:-1])


def _locate(loc: tuple[int | str, ...], first: Any, data: Any) -> tuple[str, Any]:
    """Key path as in the file, and the value there. pydantic also names the branches of unions: those are left out."""
    if data is None:
        return ".".join(str(part) for part in loc), None if first["type"] == "missing" else first["input"]
    path, value = "", data
    for position, part in enumerate(loc):
        if isinstance(value, Mapping) and part in value:
            path, value = _join(path, part), value[part]
        elif isinstance(value, (list, tuple)) and isinstance(part, int):
            path, value = f"{path}[{part}]", value[part] if part < len(value) else None
        elif position == len(loc) - 1 and first["type"] == "missing":
            path, value = _join(path, part), None
    return path, None if first["type"] == "missing" else value


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _short(value: object) -> str:
    text = repr(str(value) if isinstance(value, Path) else value)
    return text if len(text) <= 80 else text[:77] + "..."


_OUR_WORDS = {
    "missing": "this key is required",
    "union_tag_not_found": "must be a mapping with the key 'kind'",
    "model_attributes_type": "must be a mapping with the key 'kind'",
    "model_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "string_type": "must be text",
    "string_pattern_mismatch": "must start with a letter or digit, then letters, digits, '.', '_' or '-'",
    "too_short": "must have at least one entry",
}


def _plain(first: Any) -> str:
    """pydantic's message in our words."""
    if first["type"] in _OUR_WORDS:
        return _OUR_WORDS[first["type"]]
    if first["type"] == "union_tag_invalid":
        known = [tag.strip("' ") for tag in str(first["ctx"]["expected_tags"]).split(",")]
        return f"unknown kind {first['ctx']['tag']!r}{did_you_mean(first['ctx']['tag'], known)}"
    message = str(first["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return message.replace("\n", " ")
