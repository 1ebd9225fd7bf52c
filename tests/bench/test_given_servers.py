"""The configuration of servers that answer already: as the user says, as they say, else as their engine has it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from loratwin.bench import server_settings as settings_room
from loratwin.bench.running import RunningServers
from loratwin.bench.server_settings import facts_with_slots, server_settings
from loratwin.bench.servers import LaunchedServers
from loratwin.engines import config
from loratwin.engines.engine import ServerGpu
from loratwin.errors import InputError
from loratwin.telemetry import ServerFacts


@pytest.fixture(autouse=True)
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_gpu", lambda: ServerGpu("NVIDIA H100 80GB HBM3", 79.6))


HERE, ELSEWHERE = "http://127.0.0.1:1", "http://gpu-node:8000"
"""Port 1: nobody listens there."""


def test_arguments_are_read_as_those_of_the_engine_that_answers() -> None:
    sglang = ServerFacts("sglang", "0.5.2", "llm")
    words = "--enable-lora --max-loras-per-batch 5 --max-running-requests 40 --chunked-prefill-size 4096"
    told = server_settings(sglang, HERE, words)
    found = told.config
    assert (found.max_loras, found.max_num_seqs, found.max_num_batched_tokens, found.block_size) == (5, 40, 4096, 1)
    assert told.note == "limits of the server as given by --server-args, not checked with it"
    assert told.server_args == tuple(words.split()) and not told.assumed
    found = server_settings(ServerFacts(llm="llm"), HERE, "--enable-lora --max-loras 5 --max-num-seqs 40").config
    assert (found.max_loras, found.max_num_seqs, found.block_size) == (5, 40, 16)


def test_what_is_not_given_is_as_the_server_says() -> None:
    facts = ServerFacts("vllm", "0.9.2", "llm", max_model_len=1024, block_size=32, gpu_memory_utilization=0.7)
    found = server_settings(facts, HERE, "--enable-lora --max-model-len 512").config
    assert (found.max_model_len, found.block_size, found.gpu_memory_utilization) == (512, 32, 0.7)


def test_only_some_engines_steps_can_be_logged(tmp_path: Path) -> None:
    servers = LaunchedServers("--model x", "sglang", steps=True)
    with (
        pytest.raises(InputError, match="--steps: only vLLM's steps can be logged, not sglang's"),
        servers.running((), {}, tmp_path),
    ):
        pass


def test_what_nobody_tells_is_the_engines_default_on_this_machine() -> None:
    facts = ServerFacts("vllm", "0.32.0", "llm", max_model_len=1024, max_loras=4, kv_cache_dtype="fp8")
    told = server_settings(facts, HERE)
    found = told.config
    assert (found.max_loras, found.max_cpu_loras, found.max_model_len, found.kv_cache_dtype) == (4, None, 1024, "fp8")
    assert (found.max_num_seqs, found.max_num_batched_tokens, found.gpu_memory_utilization) == (1024, 8192, 0.92)
    assert told.assumed == (
        "max_lora_rank", "block_size", "max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization",
    )  # fmt: skip
    assert told.note == (
        f"the server does not tell {', '.join(told.assumed)}: the defaults of vllm-0.32.0 on this machine are assumed "
        "(--server-args or --serve says what it runs with)"
    )


def test_a_server_elsewhere_has_the_defaults_of_small_gpus() -> None:
    told = server_settings(ServerFacts(llm="llm"), ELSEWHERE)
    assert (told.config.max_loras, told.config.max_num_seqs) == (1, 256)
    assert "max_loras" in told.assumed and "the defaults of vLLM on a GPU below 70 GiB" in told.note
    assert told.server_args == () and told.server_env is None and told.gpu == ""


def test_adapters_that_are_served_fit_where_nobody_told_the_rank() -> None:
    config = server_settings(ServerFacts(llm="llm"), ELSEWHERE).config
    servers = RunningServers(("http://x",), ("a", "llm"), config, assumed=("max_lora_rank",))
    held = servers.holding([8, 40])
    assert held.config.max_lora_rank == 64 and "taken to be 64" in held.notes[-1]
    assert servers.holding([8, 16]) is servers
    told = RunningServers(("http://x",), ("a", "llm"), config)
    assert told.holding([8, 40]) is told


class _Late(BaseHTTPRequestHandler):
    """A vLLM that tells its slots after the first LoRA request."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        models = [{"id": "llm"}, {"id": "a", "parent": "llm"}]
        slots = 'vllm:lora_requests_info{max_lora="6",running_lora_adapters=""} 1.0\n' if self.asked else ""
        cache = 'vllm:cache_config_info{block_size="32",cache_dtype="fp8",enable_prefix_caching="False",'
        cache += 'gpu_memory_utilization="0.8",num_gpu_blocks="100"} 1.0\n'
        pages = {
            "/v1/models": json.dumps({"data": models}), "/metrics": slots + cache, "/version": '{"version": "0.32.0"}'
        }  # fmt: skip
        self._answer(pages[self.path])

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"])
        self._answer("{}")

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def test_slots_are_asked_after_the_first_lora_request_and_the_cache_tells_the_rest() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Late) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        facts = facts_with_slots(f"http://127.0.0.1:{server.server_port}", {})
        server.shutdown()
    assert _Late.asked == ["a"]
    assert (facts.max_loras, facts.block_size, facts.kv_tokens) == (6, 32, 3200)
    assert (facts.gpu_memory_utilization, facts.kv_cache_dtype, facts.enable_prefix_caching) == (0.8, "fp8", False)


def test_a_server_elsewhere_does_not_have_the_gpu_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_room, "gpu_name", lambda: "NVIDIA L4")
    for words in (None, "--enable-lora"):
        assert server_settings(ServerFacts(llm="llm"), HERE, words).gpu == "NVIDIA L4"
        assert server_settings(ServerFacts(llm="llm"), ELSEWHERE, words).gpu == ""
