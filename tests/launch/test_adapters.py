"""Adapters given to a running server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from loratwin.launch import Server, ServerError, load_adapters
from tests.launch.servers import started


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("logs")) as server:
        yield server


def test_adapters_are_loaded_in_order_and_not_again(running: Server, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    adapters: dict[str, str | Path] = {"b": tmp_path, "a": str(tmp_path)}
    load_adapters(running.url, adapters, progress=lambda *step: steps.append(step))
    load_adapters(running.url, adapters)
    assert re.findall("loaded (.)", running.log_path.read_text()) == ["b", "a"]
    assert steps == [(0, 2), (1, 2), (2, 2)]


def test_an_adapter_that_is_refused_is_named(running: Server) -> None:
    with pytest.raises(ServerError) as error:
        load_adapters(running.url, {"c": "/no/such"})
    assert str(error.value) == f"adapter c on {running.url}: HTTP 404: Loading lora c failed: No adapter found for c"


def test_a_server_that_allows_none_says_what_to_set(tmp_path: Path) -> None:
    with started(tmp_path, "--no-loading") as server:
        with pytest.raises(ServerError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment"):
            load_adapters(server.url, {"a": tmp_path})
        url = server.url
    with pytest.raises(ServerError, match=f"adapter a on {url}: .*Connection refused"):
        load_adapters(url, {"a": tmp_path})


@pytest.mark.parametrize("engine", [None, "sglang"])
def test_each_engine_has_its_own_path(tmp_path: Path, engine: str | None) -> None:
    with started(tmp_path, "--like", "sglang", engine="sglang") as server:
        load_adapters(server.url, {"a": tmp_path}, engine=engine)
        assert "loaded a" in server.log_path.read_text()
        with pytest.raises(ServerError, match="start vLLM with --enable-lora"):
            load_adapters(server.url, {"a": tmp_path}, engine="vllm")


def test_a_key_is_sent(tmp_path: Path) -> None:
    with started(tmp_path, "--api-key", "k") as server:
        with pytest.raises(ServerError, match="the API key is missing or wrong"):
            load_adapters(server.url, {"a": tmp_path})
        load_adapters(server.url, {"a": tmp_path}, api_key="k")
