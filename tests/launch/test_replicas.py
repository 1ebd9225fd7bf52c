"""Several servers on one GPU: one after the other, each with its share."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from loratwin.errors import InputError
from loratwin.launch import ServerError, memory_share, start_replicas
from tests.launch.servers import STAND_IN, alive, with_word

SHARES = [
    ("vllm-0.32.0", [0.3, 0.3, 0.3]),
    ("vllm-0.9.1", [0.3, 0.3, 0.3]),
    ("vllm-0.9.0", [0.3, 0.6, 0.9]),
    ("vllm-0.9.0.1", [0.3, 0.6, 0.9]),
    ("vllm-0.8.5.post1", [0.3, 0.6, 0.9]),
    ("vllm-unknown", [0.3, 0.3, 0.3]),
    ("sglang-0.5.2", [0.3, 0.3 / 0.7, 0.3 / 0.4]),
]


@pytest.mark.parametrize(("version", "expected"), SHARES)
def test_each_gets_a_third(version: str, expected: list[float]) -> None:
    assert [memory_share(version, 0.9, 3, i) for i in range(3)] == pytest.approx(expected)


@pytest.mark.parametrize(("version", "blocks"), [("0.32.0", [300, 300, 300]), ("0.8.5", [300, 600, 900])])
def test_the_first_tells_the_version_by_which_the_others_get_theirs(
    version: str, blocks: list[int], tmp_path: Path
) -> None:
    words = ["--model", "x", "--version", version, "--gpu-memory-utilization", "0.9"]
    with start_replicas(3, "vllm", words, log_folder=tmp_path, command=STAND_IN) as servers:
        assert [server.kv_tokens for server in servers] == [16 * each for each in blocks]
        assert len({server.port for server in servers}) == 3
        assert [server.log_path.name for server in servers] == ["server-0.log", "server-1.log", "server-2.log"]
        pids = [server.pid for server in servers]
        assert len(alive(pids)) == 3
    assert not alive(pids)


def test_the_next_starts_when_the_one_before_answers(tmp_path: Path) -> None:
    starts: list[float] = []

    def progress(seconds: float, line: str) -> None:
        starts.append(time.monotonic() - seconds)

    words = ["--model", "x"]
    with start_replicas(2, "vllm", words, log_folder=tmp_path, command=STAND_IN, progress=progress) as servers:
        logs = [server.log_path.stat() for server in servers]
    assert logs[0].st_mtime < logs[1].st_mtime
    assert max(starts) - min(starts) > 0.05


def test_one_that_does_not_start_stops_the_others(tmp_path: Path) -> None:
    words = [
        "--model",
        "x",
        "--version",
        "0.8.5",
        "--gpu-memory-utilization",
        "0.8",
        "--die-above",
        "0.5",
        "--marker-3",
    ]
    with (
        pytest.raises(ServerError, match="ValueError: too much .*server-1.log"),
        start_replicas(2, "vllm", words, log_folder=tmp_path, command=STAND_IN),
    ):
        pytest.fail("must not get here")
    assert not with_word("--marker-3")


@pytest.mark.parametrize(
    ("count", "words", "options", "message"),
    [
        (0, "--model x", {}, "0 replicas: must be at least 1"),
        (2, "--model x", {"port": 8000}, "replicas cannot share one port"),
        (2, "--model x --port 8000", {}, "replicas cannot share one port"),
        (2, "--model x --gpu-memory-utilization 1.5", {}, "must be above 0 and at most 1"),
    ],
)
def test_wrong_input(count: int, words: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error, start_replicas(count, "vllm", words, log_folder=tmp_path, **options):
        pass
    assert message in str(error.value)
