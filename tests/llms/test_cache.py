"""How many tokens fit: groups of layers, against what is worked out by hand and what vLLM logged."""

from __future__ import annotations

import pytest

from loratwin.errors import InputError
from loratwin.llms import Attention, CacheSettings, Layers, LlmShapes, cache_size, find_llm
from loratwin.llms.config import shapes_from
from loratwin.llms.layers import softmax_attention

GIB = 1 << 30
OLD, NEW = (0, 19, 1), (0, 25, 1)


def test_a_hybrid_holds_what_a_server_of_vllm_0_22_logged() -> None:
    """11.11 GiB, 141,107 tokens: blocks of 528 tokens, as a state of 2,146,304 bytes needs; 8 pages each, 689 of them.

    A request of 1,024 tokens takes two blocks of the full layers and one of each of three groups of linear ones.
    """
    llm = find_llm("Qwen/Qwen3.5-4B", "vllm-0.22.0")
    assert llm.state_bytes_on_gpu(1) == 24 * 2_146_304
    size = cache_size(llm, 11.11 * GIB, CacheSettings(1024, 2048, version=(0, 22, 0)))
    assert size == (141_107, 689, 8 * 528 * 4096, 5, 528)


@pytest.mark.parametrize("gib", [0.001, 7.3, 30.0])
def test_of_layers_that_all_keep_everything_all_bytes_are_tokens(gib: float) -> None:
    llm = find_llm("llama-3.1-8b-instruct")
    size = cache_size(llm, gib * GIB, CacheSettings(8192, 2048))
    assert size.tokens == int(gib * GIB // (131_072 * 16)) * 16
    assert size.concurrency == size.blocks / 512


def llm_of(full: int, sliding: int, window: int = 1024) -> LlmShapes:
    """16-bit heads of 8 x 128: 4,096 bytes of a token and layer, 65,536 of a page."""
    layers = (
        Layers(count=full, attention=softmax_attention(8, 8, 128)),
        Layers(count=sliding, attention=softmax_attention(8, 8, 128, kind="sliding", window=window)),
    )
    return LlmShapes(
        name="mixed", hidden_size=1024, intermediate_size=1, num_layers=full + sliding, num_heads=8, num_kv_heads=8,
        head_dim=128, vocab_size=1000, max_model_len=131_072, lora_on_vocabulary=False, layers=layers,
    )  # fmt: skip


def test_one_full_layer_in_six_makes_six_groups() -> None:
    """10 full and 50 sliding layers: 6 groups of 10, blocks of 655,360 bytes; a request of 32,768 tokens takes 2,048
    blocks of the full ones and 1 + ceil((1024 - 1 + 8192) / 16) = 577 of each of the others.
    """
    size = cache_size(llm_of(10, 50), 1000 * 655_360, CacheSettings(32_768, 8192, version=NEW))
    assert size == (int(1000 / 4933 * 32_768), 1000, 655_360, 4933, 16)
    assert cache_size(llm_of(10, 50), 1000 * 655_360, CacheSettings(32_768, 8192, version=OLD)).tokens == 1000 // 6 * 16
    assert cache_size(llm_of(10, 50), 1000 * 655_360, CacheSettings(32_768, 8192)).request_blocks == 2048 + 5 * 1089


def test_kinds_of_nearly_as_many_layers_are_one_group_each() -> None:
    assert cache_size(llm_of(13, 12), 13 * 65_536 * 100, CacheSettings(1600, 8192, version=NEW)).blocks == 100
    assert cache_size(llm_of(24, 12), 12 * 65_536 * 100, CacheSettings(1600, 8192, version=NEW)).blocks == 100


def test_before_there_were_groups_every_layer_kept_everything() -> None:
    size = cache_size(llm_of(10, 50), 60 * 65_536 * 100, CacheSettings(32_768, 8192, version=(0, 8, 5)))
    assert (size.tokens, size.blocks) == (1600, 100)


def test_a_window_as_long_as_the_context_is_none() -> None:
    assert cache_size(llm_of(10, 50), 60 * 65_536 * 100, CacheSettings(1024, 8192, version=NEW)).tokens == 1600


def test_smaller_pages_hold_more_tokens() -> None:
    """Gemma 4: full layers have half the bytes of a token, so their blocks have 32 tokens."""
    small = softmax_attention(8, 4, 128)
    llm = llm_of(5, 25)
    llm = llm.model_copy(update={"layers": (llm.layers[0].model_copy(update={"attention": small}), llm.layers[1])})
    size = cache_size(llm, 100 * 5 * 65_536, CacheSettings(32_768, 8192, version=NEW))
    assert (size.blocks, size.request_blocks) == (100, 1024 + 5 * 577)


def test_eight_bit_keys_take_half_and_two_gpus_share_the_heads() -> None:
    llm = find_llm("llama-3.1-8b-instruct")
    whole, small, shared = (
        cache_size(llm, 8 * GIB, server).tokens
        for server in (
            CacheSettings(8192, 2048),
            CacheSettings(8192, 2048, number_bytes=1),
            CacheSettings(8192, 2048, tensor_parallel=2),
        )
    )
    assert small == shared == 2 * whole


def test_sparse_attention_in_eight_bits_keeps_positions_in_sixteen() -> None:
    """656 bytes of a token, not 576; and 132 of the indexer's key whatever the cache is."""
    config = {
        "model_type": "deepseek_v32", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3,
        "num_attention_heads": 4, "kv_lora_rank": 512, "q_lora_rank": 64, "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 64, "v_head_dim": 64, "index_n_heads": 4, "index_head_dim": 128, "index_topk": 2048,
        "vocab_size": 1000, "max_position_embeddings": 4096,
    }  # fmt: skip
    llm = shapes_from("test", "sparse", None, config, "vllm-0.25.1")
    assert llm.kv_bytes_per_token == 3 * (1152 + 132)
    block = cache_size(llm, GIB, CacheSettings(4096, 2048, number_bytes=1)).block_bytes
    assert block == 16 * 3 * (656 + 132)


def test_an_llm_that_keeps_nothing_is_refused() -> None:
    llm = llm_of(1, 1).model_copy(update={"layers": (Layers(count=2, attention=Attention(kind="none")),)})
    with pytest.raises(InputError, match="mixed: no layer keeps keys and values, or a state"):
        cache_size(llm, GIB, CacheSettings(1024, 2048))
