"""What servers' pages say."""

from __future__ import annotations

import pytest

from loratwin.engines.pages import labels, whole
from loratwin.engines.sglang import server_info
from loratwin.engines.vllm import kv_cache


def test_the_size_that_is_told_comes_before_blocks_times_tokens() -> None:
    assert kv_cache({"block_size": "16", "num_gpu_blocks": "1000"}) == (16, 16_000)
    assert kv_cache({"block_size": "16", "num_gpu_blocks": "1000", "kv_cache_size_tokens": "30000"}) == (16, 30_000)
    assert kv_cache({"block_size": "16", "num_gpu_blocks": "None"}) == (16, None)
    assert kv_cache({}) == (None, None)


@pytest.mark.parametrize(
    ("value", "number"), [("None", None), (-1, None), (12.5, None), ("12", 12), (3, 3), (None, None)]
)
def test_whole_numbers(value: object, number: int | None) -> None:
    assert whole(value) == number


def test_what_sglang_does_not_say_is_left_out() -> None:
    info = server_info({"version": "0.5.2", "max_total_num_tokens": 1000, "max_loras_per_batch": 8, "page_size": None})
    assert info == {"version": "0.5.2", "kv_tokens": 1000}
    assert server_info({"enable_lora": True, "max_loras_per_batch": 8}) == {"max_loras": 8}


def test_labels_are_those_of_the_latest_line() -> None:
    page = 'x{a="1",b="q\\"uo, te"} 5\nx{a="2",b="3"} 7e0\nx{a="4"} 6 1234\nxy{a="9"} 99\nx{a="8"} none\n'
    assert labels(page, "x") == {"a": "2", "b": "3"}
    assert labels(page.splitlines()[0], "x") == {"a": "1", "b": 'q\\"uo, te'}
    assert labels(page, "z") == {}
