"""Prompts that share: token by token what the workload says, the answers that were given included."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from loratwin.bench.shared.sharing import load_sharing, save_sharing
from loratwin.bench.worker.prompts import RandomIds, Words
from loratwin.bench.worker.shared_prompts import SharedPrompts
from loratwin.errors import DataError
from loratwin.records import load_run
from loratwin.workload import AdapterGroup, Prefix, Separate, Sessions, Workload, WorkloadSpec, draw, recorded_workload
from tests.bench.servers import bench, timed_server


def chats(**changes: Any) -> Workload:
    """Two adapters, a beginning of 40 tokens each, three turns: prompts of 60, 75 and 90 tokens."""
    group = AdapterGroup(
        name="chats",
        count=2,
        rate=0.5,
        prefix=Prefix(tokens=40),
        sessions=Sessions(turns=3, growth=10),
        lengths=Separate(prompt=20, output=5),
    )
    return draw(WorkloadSpec(window_s=60, groups=[group.model_copy(update=changes)]), 1)


def shared(workload: Workload) -> SharedPrompts:
    assert workload.sharing is not None
    return SharedPrompts(RandomIds(1, 200), workload.sharing, workload.prompt_tokens)


def ids(prompts: SharedPrompts, workload: Workload, row: int) -> list[int]:
    """The token ids of a prompt."""
    found: list[int] = json.loads(prompts.value(row, int(workload.prompt_tokens[row])))
    return found


def in_common(one: list[int], other: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def test_prompts_have_their_length_and_begin_as_their_adapters() -> None:
    workload = chats(sessions=None)
    prompts = shared(workload)
    made = [ids(prompts, workload, row) for row in range(workload.num_requests)]
    assert {len(each) for each in made} == {60}
    for one in range(10):
        for other in range(one):
            same = workload.adapter[one] == workload.adapter[other]
            assert 40 <= in_common(made[one], made[other]) < 44 if same else in_common(made[one], made[other]) < 4


def test_a_turn_repeats_the_prompt_and_the_answer_before_it() -> None:
    workload = chats()
    assert workload.sharing is not None
    prompts, follows = shared(workload), workload.sharing.follows
    third = next(row for row in range(len(follows)) if follows[row] >= 0 and follows[follows[row]] >= 0)
    second, first = int(follows[third]), int(follows[follows[third]])
    said = []
    assert prompts.repeats_answer(first) and prompts.repeats_answer(second) and not prompts.repeats_answer(third)
    begin = ids(prompts, workload, first)
    prompts.answered(first, [7001, 7002, 7003, 7004, 7005])
    said = ids(prompts, workload, second)
    assert said[:65] == [*begin, 7001, 7002, 7003, 7004, 7005] and len(said) == 75
    prompts.answered(second, [8001, 8002])  # it ended early: others take the place of what is missing
    last = ids(prompts, workload, third)
    assert last[:77] == [*said, 8001, 8002] and len(last) == 90


def test_where_the_server_tells_no_ids_lengths_stay_and_turns_still_share() -> None:
    workload = chats()
    assert workload.sharing is not None
    prompts, follows = shared(workload), workload.sharing.follows
    second = int(np.flatnonzero(follows >= 0)[0])
    begin = ids(prompts, workload, int(follows[second]))
    prompts.answered(int(follows[second]), [])
    assert in_common(begin, ids(prompts, workload, second)) == 60
    assert len(ids(prompts, workload, second)) == 75


def test_what_is_sent_before_the_window_shares_nothing() -> None:
    workload = chats(sessions=None)
    prompts = shared(workload)
    before = json.loads(prompts.value(-3, 60))
    assert all(in_common(before, ids(prompts, workload, row)) < 4 for row in range(20))


def test_chats_share_words() -> None:
    workload = chats(sessions=None, count=1)
    assert workload.sharing is not None
    words = Words(1, tuple(f" w{i}" for i in range(500)), overhead=12, longest=200)
    prompts = SharedPrompts(words, workload.sharing, workload.prompt_tokens)
    one, other = (json.loads(prompts.value(row, 60)).split() for row in (0, 1))
    assert len(one) == len(other) == 48
    assert 40 <= in_common(one, other) < 44


def test_sharing_travels_to_the_load_client(tmp_path: Any) -> None:
    workload = chats()
    assert workload.sharing is not None and load_sharing(tmp_path) is None
    save_sharing(workload.sharing, tmp_path)
    again = load_sharing(tmp_path)
    assert again is not None
    for one, other in zip(again.arrays(), workload.sharing.arrays(), strict=True):
        np.testing.assert_array_equal(one, other)
    (tmp_path / "sharing.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="damaged"):
        load_sharing(tmp_path)


def test_turns_are_sent_after_the_answers_before_them(tmp_path: Any) -> None:
    """Over HTTP, to a server of known timing: a turn is due one second after the answer that it repeats."""
    (tmp_path / "chats.yaml").write_text(
        "window_s: 6\n"
        "lengths: {prompt: 20, output: 5}\n"
        "groups:\n"
        "  - {name: chats, count: 2, rate: 2, prefix: {tokens: 40}, sessions: {turns: 2, think_s: 1, growth: 10}}\n"
    )
    with timed_server(tmp_path, "llm", "chats-0", "chats-1") as server:
        done = bench("chats.yaml", "--url", server.url, "-o", "run.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "run.json")
    table = run.requests
    assert table.scheduled_s is not None
    first, second = (np.flatnonzero(table.prompt_tokens == prompt) for prompt in (60, 75))
    ends = np.sort(table.finish_s[first][np.isfinite(table.finish_s[first])])
    due = np.sort(table.scheduled_s[second])
    assert len(first) > 5 and 0 < len(due) <= len(ends)
    assert (due >= ends[: len(due)] + 1.0 - 1e-9).all(), "each has an answer of its own that ended a second before it"
    again, sharing = recorded_workload(run), run.sharing
    assert sharing is not None and again.sharing is not None and again.sharing.waits
    assert np.array_equal(np.flatnonzero(sharing.follows >= 0), second)
    assert (table.prompt_tokens[sharing.follows[second]] == 60).all() and (sharing.think_s[second] == 1).all()
    assert (table.adapter[sharing.follows[second]] == table.adapter[second]).all()
