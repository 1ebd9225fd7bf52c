"""What servers tell of themselves is read in one way, whoever asks."""

from __future__ import annotations

from typing import Any

import pytest

from loratwin.engines import serving
from loratwin.engines.told import kv_cache, sglang_info, whole
from loratwin.http import Answer
from loratwin.telemetry.exposition import Exposition
from loratwin.telemetry.facts import _of_metrics

PAGE = """# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",kv_cache_size_tokens="30000",num_gpu_blocks="1000",engine="0"} 1.0
"""


def test_the_size_that_is_told_comes_before_blocks_times_tokens() -> None:
    assert kv_cache({"block_size": "16", "num_gpu_blocks": "1000"}) == (16, 16_000)
    assert kv_cache({"block_size": "16", "num_gpu_blocks": "1000", "kv_cache_size_tokens": "30000"}) == (16, 30_000)
    assert kv_cache({"block_size": "16", "num_gpu_blocks": "None"}) == (16, None)
    assert kv_cache({}) == (None, None)


def test_a_server_that_we_started_and_one_at_a_url_have_the_same_kv_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """They differed where a newer vLLM tells the size itself."""
    told = _of_metrics(Exposition().read(PAGE))

    def ask(url: str, path: str, **_: Any) -> Any:
        return Answer(200, PAGE.encode() if path == "/metrics" else b"{}")

    monkeypatch.setattr(serving, "ask", ask)
    facts = serving._vllm_facts("http://127.0.0.1:1", "", None)
    assert facts.kv_tokens == told["kv_tokens"] == 30_000
    assert facts.block_size == told["block_size"] == 16


@pytest.mark.parametrize(
    ("value", "number"), [("None", None), (-1, None), (12.5, None), ("12", 12), (3, 3), (None, None)]
)
def test_whole_numbers(value: object, number: int | None) -> None:
    assert whole(value) == number


def test_what_sglang_does_not_say_is_left_out() -> None:
    info = sglang_info({"version": "0.5.2", "max_total_num_tokens": 1000, "max_loras_per_batch": 8, "page_size": None})
    assert info == {"version": "0.5.2", "kv_tokens": 1000}
    assert sglang_info({"enable_lora": True, "max_loras_per_batch": 8}) == {"max_loras": 8}
