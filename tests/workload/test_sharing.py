"""What requests have in common: beginnings, conversations, hashes of blocks; it stays so when some are taken."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.workload import (
    AdapterGroup,
    BaseTraffic,
    Prefix,
    Separate,
    Sessions,
    Texts,
    Workload,
    WorkloadSpec,
    draw,
    first_part,
    grown,
    shared_blocks,
)
from loratwin.workload.sharing import Sharing

LENGTHS = Separate(prompt=20, output=5)


def chats(**group: Any) -> WorkloadSpec:
    """Conversations of three turns with an adapter's own beginning, beside traffic without them."""
    given = {"count": 3, "rate": 0.5, "prefix": Prefix(tokens=40), "sessions": Sessions(turns=3, think_s=2, growth=10)}
    return WorkloadSpec(
        window_s=120,
        lengths=LENGTHS,
        base=BaseTraffic(rate=0.3, prefix=Prefix(tokens=30, per="all")),
        groups=[
            AdapterGroup(name="chats", **{**given, **group}),
            AdapterGroup(name="single", count=2, rate=0.2, prefix=Prefix(tokens=30, per="all")),
        ],
    )


def in_common(sharing: Sharing, one: int, other: int) -> int:
    """Tokens at which the paths of two requests part, whatever their lengths."""

    def path(request: int) -> list[int]:
        at, nodes = int(sharing.text[request]), []
        while at >= 0:
            nodes.append(at)
            at = int(sharing.parent[at])
        return nodes[::-1]

    common = [a for a, b in zip(path(one), path(other), strict=False) if a == b]
    return int(sharing.end_tokens[common[-1]]) if common else 0


def check_turns(workload: Workload) -> int:
    """Every turn repeats the one before it, answer included, and asks ten tokens more; how many there are."""
    sharing = workload.sharing
    assert sharing is not None
    later = np.flatnonzero(sharing.follows >= 0)
    before = sharing.follows[later]
    assert (before < later).all() and len(set(before.tolist())) == len(before)
    np.testing.assert_array_equal(workload.adapter[before], workload.adapter[later])
    whole = workload.prompt_tokens[before] + workload.output_tokens[before]
    np.testing.assert_array_equal(workload.prompt_tokens[later], whole + 10)
    np.testing.assert_array_equal(sharing.end_tokens[sharing.text[before]], whole)
    for one, other in zip(before.tolist(), later.tolist(), strict=True):
        assert in_common(sharing, one, other) == workload.prompt_tokens[one] + workload.output_tokens[one]
    return len(later)


def test_prompts_begin_with_what_the_adapter_the_group_or_all_have() -> None:
    workload = draw(chats(sessions=None), 1)
    sharing, adapter = workload.sharing, workload.adapter
    assert sharing is not None and not sharing.waits
    chats_only = np.isin(adapter, [0, 1, 2])
    assert set(workload.prompt_tokens[chats_only].tolist()) == {60}
    assert set(workload.prompt_tokens[~chats_only].tolist()) == {50}
    for one in range(0, 60, 7):
        for other in range(one + 1, 60, 5):
            everybody = all(a < 0 or a >= 3 for a in (adapter[one], adapter[other]))
            expected = 30 if everybody else 40 if adapter[one] == adapter[other] else 0
            assert in_common(sharing, one, other) == expected
    group = draw(chats(sessions=None, prefix=Prefix(tokens=40, per="group")), 1).sharing
    assert group is not None and len(set(group.text[np.isin(adapter, [0, 1, 2])].tolist())) == 1


def test_a_turn_repeats_the_whole_conversation() -> None:
    workload = draw(chats(), 1)
    sharing = workload.sharing
    assert sharing is not None and sharing.waits
    assert check_turns(workload) > 50
    np.testing.assert_array_equal(sharing.think_s, np.where(sharing.follows >= 0, 2.0, 0.0))
    rate = (workload.adapter == 0).sum() / 120
    assert 0.25 < rate < 0.75, "a rate counts requests, not conversations"


def test_conversations_are_other_conversations_of_the_same_adapter() -> None:
    workload = draw(chats(), 1)
    sharing = workload.sharing
    assert sharing is not None
    first = np.flatnonzero((sharing.follows < 0) & (workload.adapter == 0))
    assert in_common(sharing, first[0], first[1]) == 40


@pytest.mark.parametrize("taken", [[2, 0], [1], [0, 1, 2, 3, 4]])
def test_taking_adapters_keeps_what_they_share(taken: list[int]) -> None:
    assert check_turns(draw(chats(), 1).take_adapters(taken)) > 10


def test_a_copy_of_a_conversation_is_another_one() -> None:
    workload = draw(chats(), 1)
    more = grown(workload, [0, 1, 2], 2.5)
    assert check_turns(more) > 1.8 * check_turns(workload)
    sharing = more.sharing
    assert sharing is not None
    last = [sharing.text[i] for i in range(len(sharing)) if sharing.follows[i] >= 0]
    per_text = np.bincount(last)
    assert per_text.max() <= 2, "a text of a conversation is followed by its own turn and the next one"
    assert check_turns(first_part(workload, 0.5)) < check_turns(workload)


def test_sharing_counts_in_the_digest_and_travels() -> None:
    workload = draw(chats(), 1)
    assert pickle.loads(pickle.dumps(workload)).digest == workload.digest
    assert draw(chats(prefix=Prefix(tokens=40, per="group")), 1).digest != workload.digest
    assert workload.sharing is not None and not workload.sharing.text.flags.writeable


def test_hashes_of_blocks_become_a_tree() -> None:
    """Blocks of 512; the third hash of the first two differs, the fourth prompt is all of the first."""
    texts = Texts()
    hashes = [(1, 2, 3), (1, 2, 4, 6), (5,), (1, 2, 3), (2, 1)]
    text = shared_blocks(hashes, np.array([1500, 2000, 100, 1500, 800], np.int32), 512, texts)
    none = np.full(5, -1, np.int32)
    sharing = texts.sharing(text, none, np.zeros(5))
    assert sharing is not None
    assert [in_common(sharing, 0, i) for i in range(1, 5)] == [1024, 0, 1500, 0]
    assert text[2] == text[4] == -1, "what nobody else has is no text"
    assert len(sharing.parent) == 2, "blocks without a fork between them are one text"


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"sessions": {"turns": 1}}, "sessions.turns"),
        ({"sessions": {"turns": 3, "think": 2}}, "unknown key"),
        ({"prefix": {"tokens": 0}}, "prefix.tokens"),
        ({"prefix": {"tokens": 8, "per": "user"}}, "prefix.per"),
        (
            {"arrivals": {"kind": "closed", "concurrency": 4}, "rate": None},
            "need arrivals with a rate, not kind closed",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(group: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        chats(**group)


def test_a_conversation_that_no_llm_can_hold_is_refused() -> None:
    with pytest.raises(InputError, match="a prompt grows to"):
        draw(chats(sessions=Sessions(turns=3, growth=9_000_000)), 1)
