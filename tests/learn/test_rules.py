"""Rules for the wall."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.learn.rules.picture import rules_svg
from loratwin.learn.rules.text import rules_json, rules_markdown, rules_python, rules_text
from loratwin.learn.rules.trees import (
    FEATURES,
    GRID,
    RULES,
    LearnedRule,
    Node,
    grid_step,
    learn_rules,
    rule_features,
    significant,
)
from tests.learn.small import made_up

EXPLORED = made_up(60)


@cache
def rules() -> tuple[LearnedRule, ...]:
    return tuple(learn_rules(EXPLORED))


BY_HAND = Node(
    0,
    "work_per_s",
    10.0,
    Node(0, "work_per_s", 5.0, Node(40.0), Node(20.0)),
    Node(0, "rank_max", 16.0, Node(9.0), Node(1200.0)),
)


def one(tree: Node) -> list[LearnedRule]:
    return [LearnedRule(RULES["served"], tree, "none", 1.0, {name: 0.0 for name in FEATURES})]


def test_a_tree_answers() -> None:
    cases = [(5, 8, 40), (5.1, 8, 20), (11, 16, 9), (11, 32, 1200)]
    assert [BY_HAND.answer({"work_per_s": w, "rate_cv": 0, "rank_max": r}) for w, r, _ in cases] == [
        a for *_, a in cases
    ]
    assert BY_HAND.num_leaves == 4


def test_the_text_reads_as_sentences() -> None:
    page = rules_text(one(BY_HAND), "Title").splitlines()
    assert page[:11] == [
        "Title",
        "",
        "How many adapters can one GPU serve?",
        "  work up to 10 tokens/s:",
        "    work up to 5 tokens/s: 40 adapters",
        "    more: 20 adapters",
        "  more:",
        "    rank up to 16: 9 adapters",
        "    more: 1,200 adapters",
        "  Error: none.",
        "",
    ]


def test_questions_about_one_feature_are_a_list() -> None:
    chain = Node(0, "work_per_s", 3.0, Node(9.0), Node(0, "work_per_s", 6.0, Node(9.0), Node(4.0)))
    assert rules_text(one(chain), "T").splitlines()[3:5] == [
        "  work up to 6 tokens/s: 9 adapters",
        "  more: 4 adapters",
    ]


def test_every_form_says_the_same() -> None:
    functions: dict[str, object] = {}
    source = rules_python(rules(), "Title")
    assert "import" not in source
    exec(source, functions)
    document = {rule["target"]: rule for rule in json.loads(rules_json(rules(), "Title"))["rules"]}
    for rule in rules():
        for each in EXPLORED:
            features = rule_features(each.case)
            assert functions[rule.target.name](**features) == rule.tree.answer(features)  # type: ignore[operator]
            node = document[rule.target.name]["tree"]
            while "feature" in node:
                node = node["then"] if features[node["feature"]] <= node["at_most"] else node["else"]
            assert node["value"] == rule.tree.answer(features)


def test_it_stays_under_a_page() -> None:
    for page in (rules_text(rules(), "Title"), rules_markdown(rules(), "Title")):
        lines = page.splitlines()
        assert len(lines) <= 80 and max(map(len, lines)) <= 120
    assert len(rules_text(rules(), "Title").splitlines()) <= 66


def test_more_work_or_rank_never_means_more_adapters() -> None:
    tree = rules()[0].tree
    work = np.geomspace(0.1, 2000, 300)
    for rank in (8, 16, 32):
        answers = [tree.answer({"work_per_s": w, "rate_cv": 0.5, "rank_max": rank}) for w in work]
        higher = [tree.answer({"work_per_s": w, "rate_cv": 0.5, "rank_max": 2 * rank}) for w in work]
        assert answers == sorted(answers, reverse=True)
        assert (np.array(higher) <= np.array(answers)).all()


def test_rules_agree_with_what_they_were_learned_from() -> None:
    served = rules()[0]
    assert served.agreement > 0.8 and "% to one grid step (60 workloads not learned from)" in served.error
    assert max(served.importance, key=lambda name: served.importance[name]) == "work_per_s"


def test_values_are_rounded_as_printed() -> None:
    assert [significant(value, 2) for value in (0.01234, 1.25, 98.7, 12345)] == [0.012, 1.2, 99, 12000]
    assert significant(1290, 2, down=True) == 1200 and significant(0, 2) == 0
    for rule in rules():
        values = [float(part.replace(",", "")) for part in _leaves(rule.tree)]
        assert all(value == int(value) for value in values if rule.target.name != "throughput")


def _leaves(node: Node) -> list[str]:
    if node.below is None or node.above is None:
        return [f"{node.value:,.0f}"]
    return _leaves(node.below) + _leaves(node.above)


def test_a_step_of_the_grid() -> None:
    assert grid_step(96) == grid_step(127.9) == grid_step(128) - 1
    ratios = np.array(GRID[1:]) / GRID[:-1]
    assert ratios.max() <= 2 and list(GRID) == sorted(set(GRID))


def test_the_picture_is_svg_without_scripts() -> None:
    picture = rules_svg(rules(), EXPLORED, "A <title> & $more$")
    assert picture.startswith("<?xml") and "<script" not in picture
    assert "adapters served" in picture and "A &lt;title&gt; &amp; $more$" in picture
    assert "mathdefault" not in picture and "$\\" not in picture
    assert picture == rules_svg(rules(), EXPLORED, "A <title> & $more$")


def test_too_few_workloads_are_refused() -> None:
    with pytest.raises(InputError, match="3 different workloads are too few for 5 folds"):
        learn_rules(EXPLORED[:3])
