"""The configuration of servers that answer already: as the user says, as they say, else as their engine has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratwin.bench.servers import LaunchedServers, _config
from loratwin.engines import config
from loratwin.engines.engine import Gpu
from loratwin.errors import InputError
from loratwin.telemetry import ServerFacts


@pytest.fixture(autouse=True)
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_gpu", lambda: Gpu("NVIDIA H100 80GB HBM3", 79.6))


def test_arguments_are_read_as_those_of_the_engine_that_answers() -> None:
    sglang = ServerFacts("sglang", "0.5.2", "llm")
    words = "--enable-lora --max-loras-per-batch 5 --max-running-requests 40 --chunked-prefill-size 4096"
    found, note = _config(sglang, words)
    assert (found.max_loras, found.max_num_seqs, found.max_num_batched_tokens, found.block_size) == (5, 40, 4096, 1)
    assert note == "limits of the server as given by --server-args, not checked with it"
    found, _ = _config(ServerFacts(llm="llm"), "--enable-lora --max-loras 5 --max-num-seqs 40")
    assert (found.max_loras, found.max_num_seqs, found.block_size) == (5, 40, 16)


def test_what_is_not_given_is_as_the_server_says() -> None:
    facts = ServerFacts("vllm", "0.9.2", "llm", max_model_len=1024, block_size=32)
    found, _ = _config(facts, "--enable-lora --max-model-len 512")
    assert (found.max_model_len, found.block_size, found.gpu_memory_utilization) == (512, 32, 0.9)


def test_only_some_engines_steps_can_be_logged(tmp_path: Path) -> None:
    servers = LaunchedServers("--model x", "sglang", steps=True)
    with (
        pytest.raises(InputError, match="--steps: only vLLM's steps can be logged, not sglang's"),
        servers.running((), {}, tmp_path),
    ):
        pass


def test_what_nobody_tells_is_the_engines_default_on_this_machine() -> None:
    found, note = _config(ServerFacts("vllm", "0.32.0", "llm", max_model_len=1024, max_loras=4), None)
    assert (found.max_loras, found.max_cpu_loras, found.max_model_len) == (4, None, 1024)
    assert (found.max_num_seqs, found.max_num_batched_tokens, found.gpu_memory_utilization) == (1024, 8192, 0.92)
    assert note == (
        "the server does not tell all limits but max_loras, max_model_len: the defaults of vllm-0.32.0 on this machine "
        "are assumed (--server-args says what it runs with)"
    )
    found, note = _config(ServerFacts(llm="llm"), None)
    assert (found.max_loras, found.max_num_seqs) == (1, 1024)
    assert "tell all limits: the defaults of vLLM on this machine" in note
