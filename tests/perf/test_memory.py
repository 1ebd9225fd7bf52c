"""Slots and KV cache against the tables of vLLM's sources and against measured server starts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from loratwin.perf import (
    Profile,
    assume,
    find_gpu,
    find_llm,
    kv_capacity,
    load_profile,
    lora_reserved_bytes,
    slot_bytes,
)
from loratwin.records import EngineConfig

LLAMA = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
QWEN = load_profile("h100-64gb/vllm-0.8.5/qwen-2.5-7b-instruct")
MIB, GIB = 2**20, 2**30

MEASURED = Path(__file__).parents[2].parent / "shared" / "data" / "kv_capacity.csv"
measured = pytest.mark.skipif(not MEASURED.exists(), reason="the measured tables (../shared/data) are not here")


@pytest.mark.parametrize("rank", [8, 16, 32, 64, 128, 256])
def test_bytes_of_a_slot_are_those_of_the_tensors(rank: int) -> None:
    """engine.md 2.2, the lines 'per-slot bytes'."""
    assert slot_bytes(LLAMA.llm, rank, extra_vocabulary=256) == rank * 5_773_312 + 6_291_456
    assert slot_bytes(LLAMA.llm, rank, extra_vocabulary=0) == rank * 5_772_288
    assert slot_bytes(QWEN.llm, rank, extra_vocabulary=256) == rank * 5_046_272


@pytest.mark.parametrize(
    ("profile", "mib"), [(LLAMA, [50.0, 94.1, 182.2, 358.4, 710.8]), (QWEN, [38.5, 77.0, 154.0, 308.0, 616.0])]
)
def test_slots_in_mib(profile: Profile, mib: list[float]) -> None:
    """engine.md 2.2, the table."""
    found = [slot_bytes(profile.llm, rank, 256) / MIB for rank in (8, 16, 32, 64, 128)]
    assert found == pytest.approx(mib, abs=0.06)


def test_kv_bytes_of_a_token() -> None:
    assert (LLAMA.llm.kv_bytes_per_token, QWEN.llm.kv_bytes_per_token) == (131_072, 57_344)  # engine.md 1.4


def test_weights_are_as_the_servers_log_them() -> None:
    """engine.md 2.2: 'Model loading took' less the slots is 14.99 to 15.12 GiB for Llama, 14.25 to 14.58 for Qwen."""
    assert 14.95 < LLAMA.llm.num_parameters * 2 / GIB < 15.12
    assert 14.15 < QWEN.llm.num_parameters * 2 / GIB < 14.58


def test_slots_reserve_no_less_than_their_bytes() -> None:
    for profile in (LLAMA, QWEN):
        for slots in (1, 8, 100, 384):
            reserved = lora_reserved_bytes(profile.llm, slots, 16, 256)
            assert reserved >= slots * slot_bytes(profile.llm, 16, 256)
    assert lora_reserved_bytes(LLAMA.llm, 0, 16, 256) == 0


def config(max_loras: int, rank: int, **changes: object) -> EngineConfig:
    """What the measured servers were started with."""
    return EngineConfig(
        **{
            "max_loras": max_loras, "max_lora_rank": rank, "max_num_seqs": 2048, "max_num_batched_tokens": 2048,
            "gpu_memory_utilization": 0.9, **changes,
        }
    )  # fmt: skip


def rows() -> list[dict[str, str]]:
    with MEASURED.open() as file:
        return list(csv.DictReader(file))


def predicted(row: dict[str, str]) -> tuple[int, bool]:
    profile = {"llama-3.1-8b-instruct": LLAMA, "qwen-2.5-7b-instruct": QWEN}[row["model"]]
    capacity = kv_capacity(profile.llm, profile.memory, config(int(row["max_loras"]), int(row["max_lora_rank"])))
    return capacity.tokens, capacity.starts


@measured
def test_kv_capacity_is_as_measured() -> None:
    started = [row for row in rows() if row["outcome"] == "ok"]
    error = np.array([predicted(row)[0] / float(row["kv_tokens"]) - 1 for row in started])
    assert len(error) > 50
    assert np.abs(error).mean() <= 0.005
    assert np.abs(error).max() <= 0.01


@measured
def test_servers_start_as_measured() -> None:
    wrong = [row for row in rows() if predicted(row)[1] != (row["outcome"] == "ok")]
    assert not wrong


def test_a_longer_context_can_be_too_long_to_start() -> None:
    full = kv_capacity(LLAMA.llm, LLAMA.memory, config(256, 16))
    assert not full.starts
    assert "max_model_len = 131072" in full.reason
    cut = kv_capacity(LLAMA.llm, LLAMA.memory, config(256, 16, max_model_len=8192))
    assert (cut.starts, cut.reason, cut.tokens) == (True, "", full.tokens)


def test_reasons_why_a_server_does_not_start() -> None:
    assert "384 slots of rank 128 take" in kv_capacity(LLAMA.llm, LLAMA.memory, config(384, 128)).reason
    too_small = config(8, 16, gpu_memory_utilization=0.2)
    assert "weights" in kv_capacity(LLAMA.llm, LLAMA.memory, too_small).reason


def test_fewer_sequences_leave_more_kv_memory() -> None:
    many = kv_capacity(LLAMA.llm, LLAMA.memory, config(8, 16))
    few = kv_capacity(LLAMA.llm, LLAMA.memory, config(8, 16, max_num_seqs=256))
    assert few.tokens > many.tokens


@pytest.mark.parametrize("gpus", [1, 2, 4, 8])
def test_slots_under_tensor_parallelism(gpus: int) -> None:
    """engine.md 2.2: A of qkv and gate_up and B of o and down are whole on every GPU, the rest is shared."""
    h, f, q, kv, layers, rank = 4096, 14336, 4096, 1024, 32, 16
    whole_a = 3 * h + 2 * h + h + h  # inputs of qkv and gate_up, outputs of o and down
    shared = (q + 2 * kv + 2 * f + q + f) // gpus
    vocabulary = 128256 + 2 * h + 128256  # 128256 is a multiple of 256
    assert slot_bytes(LLAMA.llm, rank, 0, gpus) == 2 * rank * (layers * (whole_a + shared) + vocabulary)


def test_tensor_parallelism_shares_weights_and_heads() -> None:
    one = kv_capacity(LLAMA.llm, LLAMA.memory, config(0, 8)).tokens
    memory = LLAMA.memory.model_copy(update={"tensor_parallel": 2})
    two = kv_capacity(LLAMA.llm, memory, config(0, 8)).tokens
    per_gpu = LLAMA.llm.kv_bytes_per_token // 2
    assert two == pytest.approx(2 * one + LLAMA.llm.num_parameters / per_gpu, abs=2 * 16)
    too_many = LLAMA.memory.model_copy(update={"tensor_parallel": 16})  # 8 heads of keys and values
    assert LLAMA.llm.kv_bytes_on_gpu(16) == LLAMA.llm.kv_bytes_on_gpu(8)
    assert kv_capacity(LLAMA.llm, too_many, config(0, 8)).starts


def test_graph_memory_is_taken_from_the_share() -> None:
    memory = LLAMA.memory.model_copy(update={"graph_gib": 2.0})
    less = (
        kv_capacity(LLAMA.llm, LLAMA.memory, config(8, 16)).tokens
        - kv_capacity(LLAMA.llm, memory, config(8, 16)).tokens
    )
    assert less * LLAMA.llm.kv_bytes_per_token == pytest.approx(2 * GIB, abs=16 * 131_072)


def test_a_kv_cache_of_given_size_is_that_size() -> None:
    memory = LLAMA.memory.model_copy(update={"kv_gib": 1.0})
    capacity = kv_capacity(LLAMA.llm, memory, config(64, 64, max_model_len=4096, block_size=128))
    assert (capacity.tokens, capacity.starts) == (8192, True)
    assert not kv_capacity(LLAMA.llm, memory, config(8, 8)).starts  # 131,072 tokens do not fit


def test_tied_embeddings_are_there_once() -> None:
    tied = LLAMA.llm.model_copy(update={"tied_embeddings": True})
    assert LLAMA.llm.num_parameters - tied.num_parameters == 128256 * 4096


LLAMA_2 = MEASURED.with_name("llama2_7b_overheads.csv")
WITHOUT_ADAPTERS = 82528  # KV tokens that the measured servers had with LoRA off


def llama_2_starts() -> list[tuple[dict[str, str], float, bool]]:
    """Every start of Llama-2-7B, its KV tokens predicted from shapes, and whether it starts.

    The servers ran vLLM's older engine (V0), whose memory beside the model no profile knows: it is told by the start
    without adapters, as engine.md 1.4 asks for one start.
    """
    llm = find_llm("llama-2-7b")
    assumed = assume(find_gpu("h100-64gb"), llm).memory
    unknown = kv_capacity(llm, assumed, config(0, 8)).tokens - WITHOUT_ADAPTERS
    memory = assumed.model_copy(update={"other_gib": assumed.other_gib + unknown * llm.kv_bytes_per_token / GIB})
    with LLAMA_2.open() as file:
        rows = [row for row in csv.DictReader(file) if row["group"] == "memory_overhead" and row["max_loras"]]
    found = []
    for row in rows:
        slots, rank = int(float(row["max_loras"])), int(float(row["max_lora_rank"]))
        capacity = kv_capacity(llm, memory, config(slots, rank))
        found.append((row, capacity.tokens, capacity.starts))
    return found


@measured
def test_an_llm_never_fitted_has_the_capacity_that_its_shapes_say() -> None:
    """Errors as a share of the cache without adapters: 1.8 % on average; 4 % where more than 380 slots leave little."""
    starts = llama_2_starts()
    error = [(tokens - float(row["kv_tokens"])) / WITHOUT_ADAPTERS for row, tokens, _ in starts if row["kv_tokens"]]
    few = [
        (tokens - float(row["kv_tokens"])) / WITHOUT_ADAPTERS
        for row, tokens, _ in starts
        if row["kv_tokens"] and float(row["max_loras"]) <= 256
    ]
    assert len(error) > 100
    assert np.abs(error).mean() < 0.02
    assert np.abs(few).max() < 0.025
    assert np.abs(error).max() < 0.041


@measured
def test_an_llm_never_fitted_starts_as_measured() -> None:
    """But for servers with hardly a request's worth of cache left: their few tokens are within the error above."""
    longest = 4096
    for row, _, starts in llama_2_starts():
        tokens = float(row["kv_tokens"] or 0)
        if row["outcome"] == "out_of_memory":
            assert not starts
        elif tokens >= longest:
            assert starts
