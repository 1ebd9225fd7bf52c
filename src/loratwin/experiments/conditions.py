"""Conditions on the values of a grid: comparisons of names, numbers and words, joined by `and`.

server.max-loras <= workload.groups.0.count and server.max-num-seqs >= 64
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from loratwin.errors import InputError
from loratwin.refusals import did_you_mean

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_TOKEN = re.compile(r"\s*(<=|>=|==|!=|<|>|'[^']*'|\"[^\"]*\"|[^\s<>=!'\"]+)")


class Inequality(NamedTuple):
    """Left, how they are compared, right; an operand is a name of the grid or a value."""

    left: Any
    sign: str
    right: Any


class Name(NamedTuple):
    """A name of the grid, in full."""

    full: str


class Condition(NamedTuple):
    """All of its comparisons must hold."""

    text: str
    comparisons: tuple[Inequality, ...]

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it does for a run's values, by full name.

        Raises
        ------
        InputError
            A number is compared with a word.
        """
        return all(self._compare(comparison, values) for comparison in self.comparisons)

    def _compare(self, comparison: Inequality, values: Mapping[str, Any]) -> bool:
        left, right = (_value(operand, values) for operand in (comparison.left, comparison.right))
        try:
            return bool(_OPERATORS[comparison.sign](left, right))
        except TypeError:
            raise InputError(f"where: {self.text!r} compares {left!r} with {right!r}") from None


def parse_condition(text: str, names: Mapping[str, str]) -> Condition:
    """Read a condition.

    Parameters
    ----------
    names
        Full name by each name that may be used: the full ones, and short ones that only one axis has.

    Raises
    ------
    InputError
        It is no comparison, or names what the grid does not have.
    """
    comparisons: list[Inequality] = []
    for part in re.split(r"\s+and\s+", text.strip()):
        tokens = _TOKEN.findall(part)
        signs = tokens[1::2]
        if "".join(tokens) != re.sub(r"\s+", "", part) or len(tokens) < 3 or len(tokens) % 2 == 0 or not _signs(signs):
            raise InputError(f"where: {text!r} must compare, as max-loras <= workload.groups.0.count")
        operands = [_operand(token, names, text) for token in tokens[::2]]
        comparisons += map(Inequality, operands[:-1], signs, operands[1:])
    return Condition(text, tuple(comparisons))


def _signs(tokens: list[str]) -> bool:
    return all(token in _OPERATORS for token in tokens)


def _operand(token: str, names: Mapping[str, str], text: str) -> Any:
    if token[0] in "'\"":
        return token[1:-1]
    if token in names:
        return Name(names[token])
    for kind in (int, float):
        try:
            return kind(token)
        except ValueError:
            continue
    raise InputError(f"where: {text!r}: the grid has no {token!r}{did_you_mean(token, names)}")


def _value(operand: Any, values: Mapping[str, Any]) -> Any:
    return values[operand.full] if isinstance(operand, Name) else operand
