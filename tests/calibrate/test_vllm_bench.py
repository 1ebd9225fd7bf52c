"""Results of `vllm bench serve`: times and figures as the file says, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.calibrate.results.read import read_result
from loratwin.errors import DataError, InputError
from loratwin.metrics import summarize
from loratwin.records import load_run, save_run

ARGS = "--enable-lora --max-loras 2"


def result(**changes: Any) -> dict[str, Any]:
    """Three requests, in the order in which they were asked for; the second was sent first, the last one failed."""
    plain = {
        "model_id": "tiny", "duration": 4.0, "completed": 2,
        "start_times": [100.5, 100.0, 101.0], "ttfts": [0.2, 0.1, 0.0], "itls": [[0.1, 0.3], [0.2], []],
        "input_lens": [10, 20, 30], "output_lens": [3, 2, 0], "errors": ["", "", "HTTP 500"],
    }  # fmt: skip
    return {**plain, **changes}


def write(folder: Path, data: object) -> Path:
    path = folder / "result.json"
    path.write_text(json.dumps(data))
    return path


def test_figures_are_those_of_the_file(tmp_path: Path) -> None:
    run = read_result(write(tmp_path, result()), ARGS, "vllm-0.32.0", ("a", "b"), (8, 16))
    assert run.requests.arrival_s.tolist() == [0.0, 0.5, 1.0]
    assert run.requests.adapter.tolist() == [1, 0, 0]  # round-robin in the order of the file
    assert run.adapters.rank.tolist() == [8, 16] and run.config.max_loras == 2
    figures = summarize(run)
    assert figures.completed == 2
    assert figures.ttft_mean_ms == pytest.approx(150.0)
    assert figures.itl_mean_ms == pytest.approx(1e3 * (0.1 + 0.3 + 0.2) / 3)
    assert figures.total_throughput == pytest.approx((10 + 3 + 20 + 2) / 4.0)
    assert np.isnan(run.requests.finish_s[2]) and run.requests.failure is not None
    assert run.requests.failure.tolist() == [-1, -1, 0]


def test_the_servers_arguments_are_kept_without_secrets(tmp_path: Path) -> None:
    args = ("--model", "tiny", "-tp", "2", "--api-key", "abc")
    run = read_result(write(tmp_path, result()), args)
    assert run.provenance.server_args == ("--model", "tiny", "-tp", "2", "--api-key", "***")


def test_it_is_a_record_like_any_other(tmp_path: Path) -> None:
    run = read_result(write(tmp_path, result()), ARGS)
    again = load_run(save_run(run, tmp_path / "run.json"))
    assert again.requests.adapter.tolist() == [-1, -1, -1]
    np.testing.assert_equal(vars(summarize(again)), vars(summarize(run)))  # NaN is equal to NaN here


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2], "not a result of vllm bench serve"),
        ({k: v for k, v in result().items() if k != "itls"}, "itls is missing.*--save-detailed"),
        (result(ttfts=[0.1]), "different or no length"),
        (result(ttfts=0.1), "ttfts must be a list"),
        (result(ttfts=["a", 0.1, 0.0]), "not a result of vllm bench serve .*'a'"),
        (result(ttfts=[-0.2, 0.1, 0.0]), "ttfts and itls must be seconds, 0 or more"),
        (result(ttfts=[float("nan"), 0.1, 0.0]), "ttfts and itls must be seconds"),
        (result(itls=[[0.1, -0.3], [0.2], []]), "ttfts and itls must be seconds"),
        (result(itls=[0.1, [0.2], []]), "ttfts and itls must be seconds"),
        (result(itls=[None, [0.2], []]), "ttfts and itls must be seconds"),
        (result(duration="4 s"), "not a result of vllm bench serve"),
        (result(duration=0), r"duration \(0\) must be above 0"),
        (result(start_times=[None, 1.0, 2.0]), "start_times must be finite"),
        (result(input_lens=[10, -20, 30]), "input_lens and output_lens must be whole numbers"),
        (result(output_lens=[10**12, 2, 0]), "input_lens and output_lens must be whole numbers"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_result(write(tmp_path, data), ARGS)


def test_adapters_need_ranks_and_the_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="given together"):
        read_result(write(tmp_path, result()), ARGS, adapters=("a",))
    with pytest.raises(InputError, match="cannot be read"):
        read_result(tmp_path / "nothing.json", ARGS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"adapters": ("a", "a"), "ranks": (8,)}, "a,a: each is named once"),
        ({"adapters": ("a",), "ranks": (32,)}, "rank 32: must be from 1 to the server's max_lora_rank = 16"),
        ({"adapters": ("a",), "ranks": (0,)}, "rank 0: must be from 1"),
        ({"adapters": ("a",), "ranks": (8,), "server_args": "--max-loras 2"}, "lack --enable-lora"),
        ({"engine_version": "sglang"}, "a version is expected"),
    ],
)
def test_what_is_told_beside_the_file_must_be_possible(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_result(write(tmp_path, result()), **{"server_args": ARGS, **given})
