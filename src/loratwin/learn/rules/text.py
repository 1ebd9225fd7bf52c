"""Rules as text, Markdown, JSON and as Python that needs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from loratwin.learn.rules.trees import FEATURES, LearnedRule, Node, RuleTarget

UNITS = {"work_per_s": " tokens/s"}
WORDS = {
    "work_per_s": "work",
    "rate_cv": "spread",
    "rank_max": "rank",
}


def rules_text(rules: Sequence[LearnedRule], title: str) -> str:
    """One page for a terminal."""
    lines = [title, ""]
    for rule in rules:
        lines += [rule.target.question, *(f"  {line}" for line in _tree_lines(rule.target, rule.tree))]
        lines += [f"  Error: {rule.error}.", ""]
    return "\n".join([*lines, *(f"{WORDS[name]}: {text}" for name, text in _glossary(rules))]) + "\n"


def rules_markdown(rules: Sequence[LearnedRule], title: str) -> str:
    """The same page as Markdown."""
    lines = [f"# {title}", ""]
    for rule in rules:
        lines += [f"## {rule.target.question}", "```"]
        lines += [*_tree_lines(rule.target, rule.tree), "```", f"Error: {rule.error}.", ""]
    return "\n".join([*lines, *(f"- **{WORDS[name]}**: {text}" for name, text in _glossary(rules))]) + "\n"


def rules_json(rules: Sequence[LearnedRule], title: str) -> str:
    """`rules_data` as text."""
    return json.dumps(rules_data(rules, title), indent=1) + "\n"


def rules_data(rules: Sequence[LearnedRule], title: str) -> dict[str, Any]:
    """Trees as nested objects: `feature`, `at_most`, `then`, `else`; a leaf has `value` only."""
    return {
        "loratwin_rules": 1,
        "title": title,
        "features": dict(_glossary(rules)),
        "rules": [
            {
                "target": rule.target.name,
                "question": rule.target.question,
                "error": rule.error,
                "agreement": rule.agreement,
                "importance": dict(rule.importance),
                "tree": _plain(rule.tree),
            }
            for rule in rules
        ],
    }


def rules_python(rules: Sequence[LearnedRule], title: str) -> str:
    """A module with one function for each target; it imports nothing."""
    parts = [f'"""{title}\n\nWritten by `loratwin learn rules`.\n"""']
    for rule in rules:
        arguments = ", ".join(rule.target.features)
        about = "\n".join(f"    {name}: {FEATURES[name]}" for name in rule.target.features)
        head = f'def {rule.target.name}({arguments}):\n    """{rule.target.question}\n\n{about}\n    Error: '
        parts.append(f'{head}{rule.error}\n    """\n' + "\n".join(_code(rule.tree, "    ")))
    return "\n\n\n".join(parts) + "\n"


def _tree_lines(target: RuleTarget, node: Node, indent: str = "") -> Iterator[str]:
    """Nested questions; a part that asks about one feature only is a list, read from above until a line applies."""
    if node.below is None or node.above is None:
        yield f"{indent}{_answer(target, node.value)}"
    elif len(_asked(node)) == 1:
        steps = list(_intervals(node))
        for threshold, value in steps[:-1]:
            yield f"{indent}{_condition(node.feature, threshold)}: {_answer(target, value)}"
        yield f"{indent}more: {_answer(target, steps[-1][1])}"
    else:
        for head, part in ((_condition(node.feature, node.threshold), node.below), ("more", node.above)):
            if part.is_leaf:
                yield f"{indent}{head}: {_answer(target, part.value)}"
            else:
                yield f"{indent}{head}:"
                yield from _tree_lines(target, part, indent + "  ")


def _condition(feature: str, threshold: float) -> str:
    return f"{WORDS[feature]} up to {threshold:g}{UNITS.get(feature, '')}"


def _asked(node: Node) -> set[str]:
    if node.below is None or node.above is None:
        return set()
    return {node.feature} | _asked(node.below) | _asked(node.above)


def _intervals(node: Node) -> Iterator[tuple[float, float]]:
    """Upper end and value of each interval of a tree of one feature, ascending; equal neighbours are joined."""
    ends = list(_leaves(node, float("inf")))
    for i, (threshold, value) in enumerate(ends):
        if i + 1 == len(ends) or ends[i + 1][1] != value:
            yield threshold, value


def _leaves(node: Node, end: float) -> Iterator[tuple[float, float]]:
    if node.below is None or node.above is None:
        yield end, node.value
        return
    yield from _leaves(node.below, node.threshold)
    yield from _leaves(node.above, end)


def _answer(target: RuleTarget, value: float) -> str:
    return target.answer.format(f"{value:,.0f}")


def _code(node: Node, indent: str) -> Iterator[str]:
    if node.below is None or node.above is None:
        yield f"{indent}return {node.value:g}"
        return
    yield f"{indent}if {node.feature} <= {node.threshold:g}:"
    yield from _code(node.below, indent + "    ")
    yield from _code(node.above, indent)


def _plain(node: Node) -> dict[str, Any]:
    if node.below is None or node.above is None:
        return {"value": node.value}
    then, otherwise = _plain(node.below), _plain(node.above)
    return {"feature": node.feature, "at_most": node.threshold, "then": then, "else": otherwise}


def _glossary(rules: Sequence[LearnedRule]) -> list[tuple[str, str]]:
    return [(name, text) for name, text in FEATURES.items() if any(name in _asked(rule.tree) for rule in rules)]
