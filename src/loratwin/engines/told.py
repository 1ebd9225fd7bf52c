"""How a server's own pages are read, whoever asks: one that we started, or one at a URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CACHE_INFO = "vllm:cache_config_info"
"""Series of vLLM's `/metrics` whose labels hold the configuration of its KV cache."""


def whole(value: object) -> int | None:
    """A whole number above 0, given as number or text; None for anything else ("None", -1, 12.5)."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return int(number) if number > 0 and number == int(number) else None


def kv_cache(labels: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Tokens in a KV block, and tokens that the cache holds, from the labels of `CACHE_INFO`.

    Newer versions tell the size itself (`kv_cache_size_tokens`, by 0.25.1): with groups of layers, or blocks larger
    than those of the scheduler, blocks x tokens in a block is another number. Older ones tell only these two.
    """
    block, blocks = whole(labels.get("block_size")), whole(labels.get("num_gpu_blocks"))
    counted = block * blocks if block is not None and blocks is not None else None
    return block, whole(labels.get("kv_cache_size_tokens")) or counted


def sglang_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """What SGLang's `/server_info` says, by field of `ServerFacts`; what it does not say is left out."""
    told = {
        "version": str(info["version"]) if info.get("version") is not None else None,
        "block_size": whole(info.get("page_size")),
        "kv_tokens": whole(info.get("max_total_num_tokens")),
        "max_loras": whole(info.get("max_loras_per_batch")) if info.get("enable_lora") else None,
        "max_model_len": whole(info.get("context_length")),
        "max_num_seqs": whole(info.get("max_running_requests")),
        "max_num_batched_tokens": whole(info.get("chunked_prefill_size")),
    }
    return {name: value for name, value in told.items() if value is not None}
