"""A record of a run is a workload: its requests, once more, wherever a workload is asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loratwin.errors import LoratwinError
from loratwin.records import AdapterTable, save_run
from loratwin.simulate import simulate
from loratwin.workload import draw, load_spec, parse_spec
from loratwin.workload.recorded import record_as_spec, served_workload
from tests.cli.program import loratwin
from tests.metrics.runs import make_run
from tests.simulate.servers import CONFIG, PROFILE, SPEC

NAMED = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_the_twin_of_a_twins_record_is_the_same(tmp_path: Path, suffix: str) -> None:
    run = simulate(draw(SPEC, 3), PROFILE, CONFIG)
    path = save_run(run, tmp_path / f"run{suffix}")
    again = simulate(draw(load_spec(path), 9), PROFILE, CONFIG)
    assert again.adapters.name == run.adapters.name
    assert again.adapters.rank.tolist() == run.adapters.rank.tolist()
    for name in ("arrival_s", "adapter", "prompt_tokens", "output_tokens", "first_token_s", "finish_s"):
        assert np.array_equal(getattr(again.requests, name), getattr(run.requests, name), equal_nan=True), name


CHATS = {
    "window_s": 90, "lengths": {"prompt": 60, "output": 20},
    "base": {"rate": 0.3, "prefix": {"tokens": 32, "per": "all"}},
    "groups": [
        {"name": "chats", "count": 3, "rate": 0.3, "ranks": 8, "prefix": {"tokens": 64},
         "sessions": {"turns": 3, "think_s": 2, "growth": 10}},
        {"name": "single", "count": 2, "rate": 0.2, "ranks": 8, "prefix": {"tokens": 32, "per": "all"}},
    ],
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_a_record_keeps_what_its_prompts_share(tmp_path: Path, suffix: str) -> None:
    """Beginnings and conversations; its twin finds the same blocks again."""
    run = simulate(draw(parse_spec(CHATS), 3), PROFILE, CONFIG)
    path = save_run(run, tmp_path / f"run{suffix}")
    workload = draw(load_spec(path), 9)
    assert workload.sharing is not None and workload.sharing.waits
    again = simulate(workload, PROFILE, CONFIG)
    assert run.prefix_cache is not None and run.prefix_cache.hits > 1000
    assert again.prefix_cache == run.prefix_cache
    assert np.array_equal(again.requests.finish_s, run.requests.finish_s, equal_nan=True)
    assert again.sharing is not None and run.sharing is not None
    for one, other in zip(again.sharing.arrays(), run.sharing.arrays(), strict=True):
        assert np.array_equal(one, other)


def test_what_the_server_was_given_shares_and_comes_when_it_was_sent() -> None:
    run = simulate(draw(parse_spec(CHATS), 3), PROFILE, CONFIG)
    served = served_workload(run)
    assert served.sharing is not None and not served.sharing.waits
    told = simulate(served, PROFILE, CONFIG).prefix_cache
    assert told is not None and run.prefix_cache is not None and told.hits == run.prefix_cache.hits


def test_a_workload_may_say_anew_what_a_record_shares(tmp_path: Path) -> None:
    path = save_run(simulate(draw(parse_spec(CHATS), 3), PROFILE, CONFIG), tmp_path / "run.json")
    data = record_as_spec(path)
    data["groups"][0]["prefix"] = {"tokens": 16, "per": "group"}
    sharing = draw(parse_spec(data)).sharing
    assert sharing is not None and not sharing.waits and sharing.end_tokens.tolist() == [16]


def test_what_a_measured_record_was_asked_counts(tmp_path: Path) -> None:
    """When requests were meant to be sent, how long they were asked to be; an unknown rank is the largest that fits."""
    run = make_run(
        [0.5, 1.5], [0.6, 1.6], [1.0, 2.0], sent=[0.4, 1.4], scheduled=[0.25, 1.25], asked=[7, 8], output=[2, 2],
        adapter=[1, -1], kind="measured",
    )  # fmt: skip
    unknown = AdapterTable(run.adapters.name, np.array([-1, 4], np.int32), run.adapters.rate_per_s)
    workload = draw(load_spec(save_run(replace(run, adapters=unknown), tmp_path / "m.json")))
    assert workload.arrival_s.tolist() == [0.25, 1.25]
    assert workload.output_tokens.tolist() == [7, 8]
    assert workload.adapter.tolist() == [1, -1]
    assert workload.adapters.rank.tolist() == [run.config.max_lora_rank, 4]


def test_a_record_without_adapters_is_base_traffic(tmp_path: Path) -> None:
    path = save_run(make_run([0.0, 1.0], adapter=[-1, -1], num_adapters=0), tmp_path / "b.json")
    spec = load_spec(path)
    assert spec.groups == () and draw(spec).adapter.tolist() == [-1, -1]


def test_every_command_that_takes_a_workload_takes_a_record(tmp_path: Path) -> None:
    window = {"window_s": 60.0}
    save_run(simulate(draw(SPEC.model_copy(update=window), 3), PROFILE, CONFIG), tmp_path / "run.json")
    for words in (
        ["simulate", "run.json", "--profile", NAMED],
        ["plan", "run.json", "--profile", NAMED, "--slots", "4,8", "--seeds", "1", "--scale", "all=1.1"],
        ["learn", "predict", "run.json", "--profile", NAMED],
    ):
        done = loratwin(*words, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stderr)


def test_what_is_no_record_is_read_as_a_workload_file(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(json.dumps({"groups": [{"name": "a", "count": 2, "rate": 1}]}))
    assert load_spec(tmp_path / "w.json").num_adapters == 2
    (tmp_path / "r.json").write_text('{"loratwin_run": 1, "kind": "measured"}')
    with pytest.raises(LoratwinError, match="not a run of loratwin, or damaged"):
        load_spec(tmp_path / "r.json")
