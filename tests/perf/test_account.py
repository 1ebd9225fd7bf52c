"""The parts of the memory of servers that were not measured: versions, flags, what comes after the KV cache."""

from __future__ import annotations

import pytest

from loratwin.errors import InputError
from loratwin.llms import find_llm
from loratwin.perf import (
    AssumedMemory,
    MemoryAccount,
    assume,
    assume_memory,
    find_gpu,
    kv_capacity,
    load_profile,
    memory_account,
)
from loratwin.perf.account import graphs_gib, number_of_graphs
from loratwin.records import EngineConfig

H100 = find_gpu("h100-sxm")
LLAMA = find_llm("llama-3.1-8b-instruct")
MANY = EngineConfig(
    max_loras=0, max_num_seqs=1024, max_num_batched_tokens=8192, gpu_memory_utilization=0.95, max_model_len=8192
)


def account(engine: str, config: EngineConfig = MANY, tensor_parallel: int = 1, llm: str = LLAMA.name) -> MemoryAccount:
    shapes = find_llm(llm, engine)
    return memory_account(shapes, assume_memory(H100, shapes, engine, tensor_parallel), config)


def part(found: MemoryAccount, name: str) -> float:
    return next(each.gib for each in found.parts if each.name == name)


def test_the_parts_and_the_cache_are_what_the_server_may_fill() -> None:
    found = account("vllm-0.19.0")
    assert sum(each.gib for each in found.parts) + found.kv_gib == pytest.approx(0.95 * H100.memory_gib)
    assert [each.name for each in found.parts] == ["weights", "slots", "activations", "graphs", "other"]
    assert found.capacity.low < found.capacity.tokens < found.capacity.high
    assert found.concurrency == pytest.approx(found.capacity.tokens / 8192, rel=0.01)


def test_a_sampler_that_sorts_takes_38_bytes_a_word_and_the_one_after_it_15() -> None:
    """The profile run of 1024 sequences of 128,256 words, beside the hidden states of 8192 tokens."""
    hidden = 8192 * 4096 * 2
    for engine, per_word in (("vllm-0.8.5", 16), ("vllm-0.15.0", 38), ("vllm-0.17.0", 15)):
        expected = (hidden + 1024 * 128_256 * per_word) / 2**30
        assert part(account(engine), "activations") == pytest.approx(expected, rel=0.01), engine


def test_a_long_step_counts_where_few_sequences_are_sampled() -> None:
    few = MANY.replace(max_num_seqs=8)
    short, long = (
        part(account("vllm-0.19.0", few.replace(max_num_batched_tokens=n)), "activations") for n in (2048, 32768)
    )
    assert long == pytest.approx(16 * short)


def test_several_gpus_hold_more_besides() -> None:
    one, two = (part(account("vllm-0.19.0", tensor_parallel=t), "other") for t in (1, 2))
    assert 1.5 < two - one < 1.9


def test_graphs_are_captured_by_size_in_whole_and_in_pieces_with_adapters_and_without() -> None:
    """51 sizes up to 512 tokens: 102 in pieces and 102 whole, as the log of 0.25.1 with adapters says."""
    with_slots = MANY.replace(max_loras=8)
    assert number_of_graphs("vllm-0.25.1", with_slots) == 204
    assert number_of_graphs("vllm-0.25.1", MANY) == 102
    assert number_of_graphs("vllm-0.25.1", MANY.replace(max_num_seqs=128)) == 35 + 19
    assert number_of_graphs("vllm-0.8.5", with_slots) == 67
    assert number_of_graphs("vllm-0.25.1", MANY.replace(enforce_eager=True)) == 0


def test_graphs_take_what_was_measured() -> None:
    """1.34 GiB on the H100 with 0.25.1, 3.32 GiB with 0.8.5, both with slots (engine.md 1.4, 1.8)."""
    for engine, gib, seqs in (("vllm-0.25.1", 1.34, 1024), ("vllm-0.8.5", 3.32, 2048)):
        memory = assume_memory(H100, LLAMA, engine)
        assert isinstance(memory, AssumedMemory)
        config = EngineConfig(max_loras=8, max_num_seqs=seqs, max_num_batched_tokens=8192)
        assert graphs_gib(LLAMA, memory, config) == pytest.approx(gib, rel=0.1), engine


def test_graphs_count_by_version_and_runner() -> None:
    """Off in 0.19, on from 0.20; the second runner estimates nothing before 0.31."""
    counted = {v: part(account(f"vllm-{v}"), "graphs") > 0 for v in ("0.19.0", "0.20.0", "0.25.1", "0.28.0", "0.31.0")}
    assert counted == {"0.19.0": False, "0.20.0": True, "0.25.1": False, "0.28.0": False, "0.31.0": True}


def test_an_eager_server_has_no_graphs_and_more_cache() -> None:
    eager = account("vllm-0.20.0", MANY.replace(enforce_eager=True))
    assert part(eager, "graphs") == 0
    assert eager.capacity.tokens > account("vllm-0.20.0").capacity.tokens


def test_keys_and_values_of_8_bits_are_twice_as_many() -> None:
    of_16, of_8 = (
        account("vllm-0.19.0", MANY.replace(kv_cache_dtype=kind)).capacity.tokens for kind in ("auto", "fp8")
    )
    assert of_8 == pytest.approx(2 * of_16, abs=32)
    with pytest.raises(InputError, match="kv_cache_dtype = 'fp4', but it must be one of auto, "):
        MANY.replace(kv_cache_dtype="fp4")


def test_graphs_without_room_stop_the_server_and_the_reason_says_so() -> None:
    llm, l20 = find_llm("qwen-3-32b", "vllm-0.8.5"), find_gpu("l20")
    config = EngineConfig(max_loras=0, max_model_len=16384)
    died = kv_capacity(llm, assume_memory(l20, llm, "vllm-0.8.5", 2), config)
    assert not died.starts and "graphs take" in died.reason and died.tokens > 16384
    eager = kv_capacity(llm, assume_memory(l20, llm, "vllm-0.8.5", 2), config.replace(enforce_eager=True))
    assert eager.starts


def test_more_than_is_free_beside_a_context_is_refused_at_once() -> None:
    assert account("vllm-0.9.2", MANY.replace(gpu_memory_utilization=0.9, max_num_seqs=128)).capacity.starts
    found = account("vllm-0.9.2", MANY.replace(gpu_memory_utilization=0.999))
    assert not found.capacity.starts and "are free beside a CUDA context" in found.capacity.reason


def test_a_fitted_profile_has_an_account_too_and_a_narrow_interval() -> None:
    profile = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
    capacity = kv_capacity(profile.llm, profile.memory, EngineConfig(max_loras=8, max_model_len=8192))
    assert 0 < (capacity.high - capacity.low) / capacity.tokens < 0.01


def test_the_errors_of_the_parts_are_those_that_forecasts_draw() -> None:
    profile = assume(H100, LLAMA, "vllm-0.19.0")
    assert isinstance(profile.memory, AssumedMemory) and profile.uncertainty
    assert profile.uncertainty.standard_errors["memory.other_gib"] == pytest.approx(0.19, abs=0.02)
