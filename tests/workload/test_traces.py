"""Replayed traces: the recorded requests, at the recorded times, for the right adapters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.traces import read_trace
from loratwin.workload import Workload, draw, parse_spec

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.5000000,374,44
2023-11-16 18:15:47.7500000,396,109
2023-11-16 18:15:56.5000000,20,7
"""
OURS = """arrival_s,adapter,prompt_tokens,output_tokens
4,blue,40,4
1,red,10,1
2,,20,2
3,blue,30,3
"""


def replay(folder: Path, text: str, seed: int = 1, *, window_s: float = 60, spec: Any = None, **group: Any) -> Workload:
    """Draw a workload with one group that replays this text as a trace; arrival options start with `arrivals_`."""
    (folder / "t.csv").write_text(text)
    options = {key.removeprefix("arrivals_"): group.pop(key) for key in list(group) if key.startswith("arrivals_")}
    arrivals = {"kind": "replay", "path": "t.csv", **options}
    keys = {key: value for key, value in {"name": "g", "count": 3, **group}.items() if value is not None}
    groups = [keys | {"arrivals": arrivals}]
    return draw(parse_spec({"window_s": window_s, "groups": groups, **(spec or {})}, folder=folder), seed)


def columns_of(workload: Workload) -> list[tuple[float, int, int, int]]:
    arrays = (workload.arrival_s, workload.adapter, workload.prompt_tokens, workload.output_tokens)
    return list(zip(*(array.tolist() for array in arrays), strict=True))


def test_azure_form(tmp_path: Path) -> None:
    workload = replay(tmp_path, AZURE)
    assert workload.arrival_s.tolist() == [0, 1.25, 10]
    assert workload.prompt_tokens.tolist() == [374, 396, 20]
    assert workload.output_tokens.tolist() == [44, 109, 7]
    assert workload.adapters.rate_per_s == pytest.approx([1 / 60] * 3)


def test_azure_form_of_2024_with_time_zone(tmp_path: Path) -> None:
    text = AZURE.replace("0000,", "+00:00,").replace("46.5000", "46.5")
    assert replay(tmp_path, text).arrival_s.tolist() == [0, 1.25, 10]


def test_our_form(tmp_path: Path) -> None:
    workload = replay(tmp_path, OURS, ranks=[8, 16])
    assert columns_of(workload) == [(1, 1, 10, 1), (2, -1, 20, 2), (3, 0, 30, 3), (4, 0, 40, 4)]
    assert workload.adapters.name == ("blue", "red", "g-0")
    assert workload.adapters.rate_per_s == pytest.approx([2 / 60, 1 / 60, 0])


def test_names_of_the_file_decide_the_order(tmp_path: Path) -> None:
    workload = replay(tmp_path, OURS, names=["red", "blue", "green"])
    assert workload.adapter.tolist() == [0, -1, 1, 1]
    assert workload.adapters.rate_per_s == pytest.approx([1 / 60, 2 / 60, 0])


def test_adapters_named_by_numbers_are_in_numeric_order(tmp_path: Path) -> None:
    text = "arrival_s,adapter\n0,10\n1,9\n2,2\n"
    assert replay(tmp_path, text).adapters.name == ("2", "9", "10")


def test_a_group_after_another_is_numbered_after_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(OURS)
    arrivals = {"kind": "replay", "path": "t.csv"}
    groups = [{"name": "first", "count": 2, "rate": 0}, {"name": "g", "count": 2, "arrivals": arrivals}]
    assert draw(parse_spec({"groups": groups}, folder=tmp_path)).adapter.tolist() == [3, -1, 2, 2]


def test_popularity_assigns_adapters(tmp_path: Path) -> None:
    text = "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{i / 1000},5,6\n" for i in range(30_000))
    workload = replay(tmp_path, text, popularity={"kind": "zipf", "exponent": 1})
    expected = 30_000 * np.array([6, 3, 2]) / 11
    assert np.bincount(workload.adapter) == pytest.approx(expected, abs=3.5 * np.sqrt(expected.max()))
    assert workload.adapters.rate_per_s == pytest.approx(expected / 60)
    other = replay(tmp_path, text, seed=2, popularity="zipf")
    assert np.array_equal(other.arrival_s, workload.arrival_s)
    assert not np.array_equal(other.adapter, workload.adapter)


def test_start_and_speed(tmp_path: Path) -> None:
    workload = replay(tmp_path, OURS, arrivals_start_s=2.0, arrivals_speed=0.5)
    assert workload.arrival_s.tolist() == [0, 2, 4]
    assert workload.prompt_tokens.tolist() == [20, 30, 40]


def test_the_window_cuts(tmp_path: Path) -> None:
    assert replay(tmp_path, OURS, window_s=3).arrival_s.tolist() == [1, 2]


def test_repeat_fills_the_window(tmp_path: Path) -> None:
    workload = replay(tmp_path, OURS, arrivals_start_s=1, arrivals_repeat=True, window_s=10)
    assert workload.arrival_s.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]  # a mean gap between the end and the beginning
    assert workload.prompt_tokens.tolist() == [10, 20, 30, 40, 10, 20, 30, 40, 10, 20]
    assert workload.adapters.rate_per_s.sum() == pytest.approx(7 / 10)


def test_lengths_of_the_group_replace_those_of_the_trace(tmp_path: Path) -> None:
    workload = replay(tmp_path, OURS, lengths={"prompt": 7, "output": 8})
    assert set(workload.prompt_tokens) == {7} and set(workload.output_tokens) == {8}


def test_lengths_of_the_workload_fill_what_the_trace_lacks(tmp_path: Path) -> None:
    lengths = {"prompt": 7, "output": 8}
    assert set(replay(tmp_path, OURS, spec={"lengths": lengths}).output_tokens) == {1, 2, 3, 4}
    workload = replay(tmp_path, "arrival_s,output_tokens\n1,5\n2,6\n", spec={"lengths": lengths})
    assert (workload.prompt_tokens.tolist(), workload.output_tokens.tolist()) == ([7, 7], [5, 6])


def test_base_traffic_can_be_replayed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(AZURE)
    spec = parse_spec({"window_s": 5, "base": {"arrivals": {"kind": "replay", "path": "t.csv"}}}, folder=tmp_path)
    workload = draw(spec)
    assert columns_of(workload) == [(0, -1, 374, 44), (1.25, -1, 396, 109)]
    assert workload.total_rate_per_s == pytest.approx(2 / 5)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    assert replay(tmp_path, OURS).num_requests == 4
    text = OURS + "5,red,1,1\n"
    assert replay(tmp_path, text).num_requests == 5
    (tmp_path / "t.csv").write_text(text.replace("5,red,1,1", "5,red,9,1"))
    os.utime(tmp_path / "t.csv", ns=(1, 1))
    assert read_trace(tmp_path / "t.csv").prompt_tokens.tolist()[-1] == 9


def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    assert replay(tmp_path, "\ufeff" + OURS.replace("\n3,", "\n\n3,")).num_requests == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no requests"),
        ("arrival_s,prompt_tokens\n", "has no requests"),
        ("TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,3\n", "column 'GeneratedTokens' is missing"),
        ("time,prompt_tokens\n1,2\n", "column 'completion_tokens' is missing"),
        ("arrival_s,prompt_tokens\n1,2\n2\n", "line 3 has 1 cells, the header has 2"),
        ("arrival_s\n1\nsoon\n", "line 3, arrival_s: 'soon' is not a number"),
        ("arrival_s\n1\nnan\n", "line 3, arrival_s: 'nan' is not a number"),
        ("arrival_s\n1\n-2\n", "line 3, arrival_s: must not be negative"),
        ("arrival_s,output_tokens\n1,0\n", "line 2, output_tokens: '0', must be a whole number from 1"),
        ("arrival_s,output_tokens\n1,2.5\n", "line 2, output_tokens: '2.5', must be a whole number from 1"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n", "line 2, TIMESTAMP: 'yesterday' is not a time"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n,1,2\n", "line 2, TIMESTAMP: '' is not a time"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-16 18:15:46,1,2\n", "TIMESTAMP: "),
    ],
)
def test_damaged_traces_are_refused_when_the_file_is_loaded(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        replay(tmp_path, text)
    assert message in str(error.value)
    assert "groups[0].arrivals.path" in str(error.value) and "t.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_trace_tells_how_many_adapters_there_are(tmp_path: Path) -> None:
    workload = replay(tmp_path, OURS, count=None, ranks={"by_name": {"red": 64}, "others": 8})
    assert workload.adapters.name == ("blue", "red")
    assert workload.adapters.rank.tolist() == [8, 64]


def test_ranks_by_name_name_adapters_and_all_of_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no adapter 'rde'; did you mean 'red'"):
        replay(tmp_path, OURS, count=None, ranks={"by_name": {"rde": 64, "red": 8, "blue": 8}})
    with pytest.raises(InputError, match="has no rank for adapter 'blue'"):
        replay(tmp_path, OURS, count=None, ranks={"by_name": {"red": 64}})


def test_columns_are_mapped_in_the_file(tmp_path: Path) -> None:
    text = "at,who,in,out\n1500,a,5,6\n500,b,7,0\n2500,,9,10\n"
    columns = {"time": "at", "prompt": "in", "output": "out", "adapter": "who"}
    with pytest.raises(InputError, match="line 3, out: '0', must be a whole number from 1"):
        replay(tmp_path, text, count=None, arrivals_columns=columns, arrivals_unit="ms")
    workload = replay(tmp_path, text, count=None, arrivals_columns=columns, arrivals_unit="ms", arrivals_unfit="skip")
    assert columns_of(workload) == [(1.5, 0, 5, 6), (2.5, -1, 9, 10)]
    assert workload.notes == ("t.csv: 1 of 3 rows left out: without prompt or output tokens",)
    clipped = replay(tmp_path, text, arrivals_columns=columns, arrivals_unit="ms", arrivals_unfit="clip")
    assert clipped.output_tokens.tolist() == [1, 6, 10]
    shifted = replay(
        tmp_path, text, arrivals_columns=columns, arrivals_unit="ms", arrivals_unfit="clip", arrivals_shift=True
    )
    assert shifted.arrival_s.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="has no column 'when'"):
        replay(tmp_path, text, arrivals_columns={"time": "when"})
    with pytest.raises(InputError, match="format = 'azur': unknown format; did you mean 'azure'"):
        replay(tmp_path, text, arrivals_format="azur")


def test_a_window_that_holds_no_request_is_refused_and_what_lies_outside_is_said(tmp_path: Path) -> None:
    text = "arrival_s\n100\n200\n300\n"
    with pytest.raises(InputError) as error:
        replay(tmp_path, text, window_s=60)
    where = "the trace has 3 from 100 to 300 s, 0 before the window and 3 after it"
    assert f"groups.g.arrivals: {where}; none lies in the window of 60 s" in str(error.value)
    workload = replay(tmp_path, text, window_s=60, arrivals_start_s=150)
    assert workload.arrival_s.tolist() == [50]
    where = "the trace has 3 from 100 to 300 s, 1 before the window and 1 after it"
    assert workload.notes == (f"t.csv: 2 requests lie outside the window: {where}",)
    assert replay(tmp_path, text, window_s=1000).notes == ()


def test_a_part_of_a_trace_is_repeated(tmp_path: Path) -> None:
    options: Any = {"arrivals_start_s": 1.5, "arrivals_end_s": 3.5, "arrivals_repeat": True}
    workload = replay(tmp_path, OURS, window_s=6, **options)
    assert workload.prompt_tokens.tolist() == [20, 30, 20, 30, 20]
    with pytest.raises(InputError, match="end_s = 1: must be after start_s"):
        replay(tmp_path, OURS, arrivals_start_s=2, arrivals_end_s=1)


def test_lengths_of_a_trace_stay_together(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("num_prefill_tokens,num_decode_tokens\n10,1\n20,2\n")
    groups = [{"name": "g", "count": 2, "rate": 5, "lengths": {"kind": "trace", "path": "l.csv"}}]
    workload = draw(parse_spec({"window_s": 60, "groups": groups}, folder=tmp_path), 1)
    assert set(zip(workload.prompt_tokens.tolist(), workload.output_tokens.tolist(), strict=True)) == {(10, 1), (20, 2)}
    groups[0] |= {"rate": None, "arrivals": {"kind": "replay", "path": "l.csv"}}
    with pytest.raises(InputError, match="has no times of arrival; its lengths can be used"):
        draw(parse_spec({"window_s": 60, "groups": groups}, folder=tmp_path), 1)


def test_blocks_of_mooncake_are_shared_beginnings(tmp_path: Path) -> None:
    rows = [(0, 1200, [1, 2, 3]), (500, 1100, [1, 2, 9]), (900, 700, [7, 8])]
    text = "".join(
        f'{{"timestamp": {ms}, "input_length": {tokens}, "output_length": 4, "hash_ids": {blocks}}}\n'
        for ms, tokens, blocks in rows
    )
    workload = replay(tmp_path, text)
    sharing = workload.sharing
    assert sharing.text[0] == sharing.text[1] >= 0 > sharing.text[2]
    assert sharing.end_tokens[sharing.text[0]] == 1024


def test_ranks_of_the_adapters_in_a_folder(tmp_path: Path) -> None:
    for name, rank in (("red", 64), ("blue", 16)):
        (tmp_path / "loras" / name).mkdir(parents=True)
        (tmp_path / "loras" / name / "adapter_config.json").write_text(f'{{"r": {rank}}}')
    assert replay(tmp_path, OURS, count=None, ranks={"folder": "loras"}).adapters.rank.tolist() == [16, 64]
    with pytest.raises(InputError, match="ranks.folder: has no rank for adapter 'g-0'"):
        replay(tmp_path, OURS, ranks={"folder": "loras"})
    assert replay(tmp_path, OURS, ranks={"folder": "loras", "others": 8}).adapters.rank.tolist() == [16, 64, 8]


def test_a_folder_of_adapters_tells_names_and_ranks(tmp_path: Path) -> None:
    for name, rank in (("red", 64), ("blue", 16)):
        (tmp_path / "loras" / name).mkdir(parents=True)
        (tmp_path / "loras" / name / "adapter_config.json").write_text(f'{{"r": {rank}}}')
    group: dict[str, Any] = {"name": "g", "adapters": "loras", "rate": 1}
    spec = parse_spec({"groups": [group]}, folder=tmp_path)
    assert (spec.groups[0].adapter_names(), spec.groups[0].rank_of_each().tolist()) == (("blue", "red"), [16, 64])
    assert parse_spec(spec.model_dump(mode="json")) == spec, "a copy of it says the same"
    few = parse_spec({"groups": [{**group, "names": ["org/red"]}]}, folder=tmp_path).groups[0]
    assert (few.adapter_names(), few.rank_of_each().tolist()) == (("org/red",), [64])
    for changes, message in (
        ({"adapters": "absent"}, "adapters = .absent.: no such file"),
        ({"ranks": 8}, "ranks = 8: the folder of the adapters tells them"),
        ({"names": ["bleu"]}, "names.*loras has no adapter 'bleu'; did you mean 'blue'"),
        ({"count": 3}, "is for 2 adapters, but count is 3"),
    ):
        with pytest.raises(InputError, match=message):
            parse_spec({"groups": [{**group, **changes}]}, folder=tmp_path)
