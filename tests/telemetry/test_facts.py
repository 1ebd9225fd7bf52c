"""What servers tell of themselves: vLLM, SGLang, and one that tells nothing but its models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loratwin.engines.facts import engine_at, facts_of
from loratwin.engines.registry import ENGINES
from loratwin.errors import DataError
from loratwin.http import Connection
from loratwin.telemetry import ServerFacts, server_facts
from tests.telemetry.metrics_server import MetricsServer

VLLM_PAGE = """# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="1000"} 1.0
# TYPE vllm:lora_requests_info gauge
vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""} 1.7e9
"""


def test_vllm(server: MetricsServer) -> None:
    server.pages = {
        "/metrics": lambda: VLLM_PAGE,
        "/version": lambda: {"version": "0.32.0"},
        "/v1/models": lambda: {
            "data": [
                {"id": "llm", "parent": None, "max_model_len": 1024},
                {"id": "support", "parent": "llm", "max_model_len": None},
            ]
        },
    }
    facts = server_facts(server.url, {"Authorization": "Bearer key"})
    assert facts == ServerFacts("vllm", "0.32.0", "llm", {"support": "llm"}, 1024, 16, 16000, 4)
    assert facts.engine_version == "vllm-0.32.0"
    assert {key for _, _, key in server.seen} == {"Bearer key"}
    assert "key" not in repr(facts)


def test_vllm_before_its_first_request(server: MetricsServer) -> None:
    server.pages = {
        "/metrics": lambda: VLLM_PAGE.split("# TYPE vllm:lora")[0],
        "/v1/models": lambda: {"data": [{"id": "llm"}]},
    }
    assert server_facts(server.url) == ServerFacts(engine="vllm", llm="llm", block_size=16, kv_tokens=16000)


@pytest.mark.parametrize("path", ["/server_info", "/get_server_info"])
def test_sglang(server: MetricsServer, path: str) -> None:
    info = {"version": "0.5.23", "page_size": 1, "max_total_num_tokens": 90000, "context_length": None}
    server.pages = {
        "/version": lambda: {"version": "9"},  # a gateway's
        path: lambda: {**info, "enable_lora": True, "max_loras_per_batch": 8, "api_key": "secret"},
        "/v1/models": lambda: {
            "data": [{"id": "llm", "max_model_len": 8192}, {"id": "a", "parent": "llm", "root": "path"}]
        },
    }
    facts = server_facts(server.url)
    assert facts == ServerFacts("sglang", "0.5.23", "llm", {"a": "llm"}, 8192, 1, 90000, 8)


@pytest.mark.parametrize("name", list(ENGINES))
def test_of_a_server_that_we_started_the_same_is_known_and_what_its_log_tells(server: MetricsServer, name: str) -> None:
    server.pages = {
        "/metrics": lambda: VLLM_PAGE if name == "vllm" else "",
        "/version": lambda: {"version": "0.32.0"} if name == "vllm" else {},
        "/server_info": lambda: {"version": "0.5.2", "max_total_num_tokens": 9} if name == "sglang" else {},
        "/v1/models": lambda: {"data": [{"id": "llm", "max_model_len": 64}]},
    }
    kind = ENGINES[name]
    log = "\n".join(f"max_num_batched_tokens={tokens} chunked_prefill_size={tokens}" for tokens in (1, 512))
    with Connection(server.url) as connection:
        assert engine_at(connection) is kind
        assert facts_of(kind, connection) == server_facts(server.url)
        assert facts_of(kind, connection, log) == replace(server_facts(server.url), max_num_batched_tokens=512)
        server.pages = {}
        assert engine_at(connection) is None
        told = "KV cache size: 54,321 tokens" if name == "vllm" else "max_total_num_tokens=54321"
        assert facts_of(kind, connection, told) == ServerFacts(engine=name, kv_tokens=54_321)


def test_a_server_tells_its_own_limits(server: MetricsServer) -> None:
    info = {"version": "0.5", "max_total_num_tokens": 9, "max_running_requests": 48, "chunked_prefill_size": 4096}
    server.pages = {"/server_info": lambda: info, "/v1/models": lambda: {"data": [{"id": "llm"}]}}
    facts = server_facts(server.url)
    assert (facts.max_num_seqs, facts.max_num_batched_tokens) == (48, 4096)


def test_a_server_that_tells_only_its_models(server: MetricsServer) -> None:
    server.pages = {"/v1/models": lambda: {"data": [{"id": "a"}, {"id": "b", "parent": "b"}]}}
    facts = server_facts(server.url)
    assert facts == ServerFacts(llm="a") and facts.engine_version == ""


def test_pages_that_are_something_else(server: MetricsServer) -> None:
    server.pages = {
        "/v1/models": lambda: {"data": [{"id": "a"}]},
        "/metrics": lambda: "<html>",
        "/version": lambda: [1],
        "/server_info": lambda: "<html>",
    }
    assert server_facts(server.url) == ServerFacts(llm="a")


@pytest.mark.parametrize("answer", ["<html>", [], {"data": 3}, {"data": [3]}, {"models": []}])
def test_no_list_of_models_is_refused(server: MetricsServer, answer: object) -> None:
    server.pages = {"/v1/models": lambda: answer}
    with pytest.raises(DataError, match="/v1/models: "):
        server_facts(server.url)


def test_a_wrong_key_and_no_server_are_refused(server: MetricsServer) -> None:
    server.pages, server.status = {"/v1/models": dict}, 401
    with pytest.raises(DataError, match="/v1/models: HTTP 401"):
        server_facts(server.url, {"Authorization": "Bearer secret"})
    with pytest.raises(DataError, match="Connection refused"):
        server_facts("http://127.0.0.1:9")
