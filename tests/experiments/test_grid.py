"""Grids: what they expand to, in which order and under which names, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loratwin.errors import InputError
from loratwin.experiments import Grid, expand, load_grid, parse_grid
from loratwin.experiments.published import published_grid, read_dictionary, write_published


def grid(args: dict[str, Any] | None = None, **more: Any) -> Grid:
    server = {"args": {"model": "m", "max-loras": [8, 16]} if args is None else args}
    return parse_grid({"server": server, "workload": {"file": "t.yaml"}} | more)


def made(grid: Grid) -> list[str]:
    return [run.name for run in expand(grid) if not run.left_out]


def test_all_values_are_combined_the_last_axis_fastest() -> None:
    runs = expand(grid({"max-loras": [8, 16], "max-num-seqs": [64, 128]}, repeat=2))
    names = [run.name for run in runs]
    assert names[:3] == [
        "max-loras=8_max-num-seqs=64_repetition=1",
        "max-loras=8_max-num-seqs=64_repetition=2",
        "max-loras=8_max-num-seqs=128_repetition=1",
    ]
    assert len(names) == len(set(names)) == 8
    assert runs[-1].values["server.max-num-seqs"] == 128 and runs[-1].values["bench.seed"] == 0


def test_without_axes_there_is_one_run() -> None:
    assert made(grid({"model": "m"})) == ["run"]


def test_linked_axes_move_together() -> None:
    linked = grid(
        workload={"file": "t.yaml", "changes": {"groups.0.count": [10, 20]}}, links=[["max-loras", "groups.0.count"]]
    )
    assert [(run.values["server.max-loras"], run.values["workload.groups.0.count"]) for run in expand(linked)] == [
        (8, 10),
        (16, 20),
    ]


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ("max-loras <= 8", [8]),
        ("server.max-loras > 8", [16, 32]),
        ("8 < max-loras < 32", [16]),
        ("max-loras != 16 and max-loras >= 16", [32]),
        ("model == 'm'", [8, 16, 32]),
        ("max-loras<=max-num-seqs", [8, 16]),
    ],
)
def test_conditions_leave_out(condition: str, left: list[int]) -> None:
    runs = expand(grid({"model": "m", "max-loras": [8, 16, 32], "max-num-seqs": 16}, where=[condition]))
    assert [run.values["server.max-loras"] for run in runs if not run.left_out] == left
    assert {run.left_out for run in runs} <= {"", condition}


def test_long_names_are_cut_and_still_differ() -> None:
    runs = expand(grid({f"option-number-{i}": [1, 2] for i in range(8)}))
    names = [run.name for run in runs]
    assert len(set(names)) == 256 and max(map(len, names)) <= 100


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"links": [["max-loras", "seed"]]}, "axes that move together must have equally many values"),
        ({"links": [["max-lora", "seed"]]}, "did you mean 'max-loras'"),
        ({"links": [["max-loras"], ["max-loras"]]}, "is in two of them"),
        ({"where": ["max-loras"]}, "must compare"),
        ({"where": ["max-loras <= slots"]}, "the grid has no 'slots'"),
        ({"where": ["max-loras <= model"]}, "compares 8 with 'm'"),
        ({"repeat": 0}, "repeat"),
        ({"sever": {}}, "did you mean 'server'"),
        ({"workload": {"file": []}}, "workload.file is an empty list"),
    ],
)
def test_what_is_wrong_is_said(data: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        expand(grid(**data))


def test_values_that_are_listed_twice_are_refused() -> None:
    with pytest.raises(InputError, match="2 runs would be called 'max-loras=8'"):
        expand(grid({"max-loras": [8, 8]}))


def test_a_slip_does_not_fill_the_disk() -> None:
    with pytest.raises(InputError, match="1,000,000 runs; at most 100,000"):
        expand(grid({f"o{i}": list(range(10)) for i in range(6)}))


def test_the_form_of_the_published_launcher() -> None:
    """Ten slot counts by ten adapter counts, slots at most as many as adapters: 55 runs."""
    counts = [8, 16, 32, 64, 96, 128, 160, 192, 256, 320]
    found = published_grid(
        read_dictionary(
            "{'--model': 'meta-llama/Llama-3.1-8B', '--enable-lora': '', '--max-lora-rank': 16}", "--default"
        ),
        read_dictionary(str({"--max-loras": counts, "--max-cpu-loras": counts}), "--test"),
        {"total-time": 3600, "disable-log-stats": ""},
        {},
        "traffic.yaml",
        where=["max-loras <= max-cpu-loras"],
    )
    runs = expand(found)
    assert (len(runs), sum(not run.left_out for run in runs)) == (100, 55)
    assert found.values["bench.window_s"] == (3600,) and found.values["server.enable-lora"] == (True,)


@pytest.mark.parametrize(
    ("text", "message"), [("[1]", "must be a dictionary"), ("{'a': ", "must be a dictionary"), ("{a: 1}", "must be")]
)
def test_what_is_no_dictionary_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_dictionary(text, "--default-server-args")


def test_values_that_look_like_json_words_stay(tmp_path: Path) -> None:
    text = '{"--model": "untrue/nullable", "--enable-lora": true, "--revision": null}'
    found = read_dictionary(text, "--default-server-args")
    assert found == {"model": "untrue/nullable", "enable-lora": True, "revision": None}


def test_a_published_command_becomes_a_file_that_makes_the_same_runs(tmp_path: Path) -> None:
    path, counts = tmp_path / "grid.yaml", "{'--max-loras': [8, 16], '--max-cpu-loras': [8, 16]}"
    server, bench = "{'--model': 'm', '--enable-lora': ''}", "{'total-time': 600}"
    written = write_published(path, Path("t.yaml"), server, counts, bench, "{}", ["max-loras <= max-cpu-loras"])
    assert expand(load_grid(path)) == expand(written)
    assert [run.name for run in expand(written) if not run.left_out] == [
        "max-loras=8_max-cpu-loras=8", "max-loras=8_max-cpu-loras=16", "max-loras=16_max-cpu-loras=16",
    ]  # fmt: skip


def test_arguments_without_a_counterpart_are_refused() -> None:
    with pytest.raises(InputError, match="--burstiness has no counterpart here"):
        published_grid({}, {}, {"burstiness": 1}, {}, "t.yaml")
    with pytest.raises(InputError, match="must have a list of values"):
        published_grid({}, {"max-loras": 8}, {}, {}, "t.yaml")
