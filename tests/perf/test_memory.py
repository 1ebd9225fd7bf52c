"""Slots and KV cache against the tables of vLLM's sources and against measured server starts."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.llms import find_llm, slot_bytes
from loratwin.perf import KvCapacity, Profile, assume_memory, find_gpu, kv_capacity, load_profile, lora_reserved_bytes
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
    values: dict[str, Any] = {
        "max_loras": max_loras, "max_lora_rank": rank, "max_num_seqs": 2048, "max_num_batched_tokens": 2048,
        "gpu_memory_utilization": 0.9, **changes,
    }  # fmt: skip
    return EngineConfig(**values)


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
SWEEP = MEASURED.with_name("batch_sweep_and_replication.csv")


def first_engine(llm: str, engine: str, config: EngineConfig) -> KvCapacity:
    """What vLLM's first engine has for keys and values, from shapes alone."""
    shapes = find_llm(llm, engine)
    return kv_capacity(shapes, assume_memory(find_gpu("h100-64gb"), shapes, engine), config)


def llama_2_starts() -> list[tuple[dict[str, str], KvCapacity]]:
    """Every start of Llama-2-7B, and what its shapes say.

    The engine's version and `max_num_seqs` are not recorded. 4096 is the most that its `max_model_len` allows; what
    each slot takes beyond its tensors says the same, and that logits are sorted in float16, as up to 0.5.4.
    """
    with LLAMA_2.open() as file:
        rows = list(csv.DictReader(file))
    found = []
    for row in rows:
        slots, rank = int(float(row["max_loras"] or 0)), int(float(row["max_lora_rank"] or 8))
        limits = config(slots, rank, max_num_seqs=4096, max_num_batched_tokens=4096)
        found.append((row, first_engine("llama-2-7b", "vllm-0.5.4", limits)))
    return found


@measured
def test_an_llm_never_fitted_has_the_capacity_that_its_shapes_say() -> None:
    """Every start, with 0 to 864 slots of rank 8, 16 and 32, down to 768 tokens: nothing of it was fitted to them."""
    starts = [(capacity.tokens, float(row["kv_tokens"])) for row, capacity in llama_2_starts() if row["kv_tokens"]]
    predicted, found = np.array(starts).T
    assert len(found) > 200
    assert found.min() < 1000
    assert np.abs(predicted / found - 1).max() < 0.005
    assert np.abs(predicted - found).max() <= 32


@measured
def test_an_llm_never_fitted_starts_as_measured() -> None:
    """A server that had less cache than one request of 4096 tokens did not start."""
    judged = [
        (capacity.starts, float(row["kv_tokens"] or 0) >= 4096)
        for row, capacity in llama_2_starts()
        if row["kv_tokens"] or row["outcome"] == "out_of_memory"
    ]
    assert len(judged) > 220
    assert sum(not starts for _, starts in judged) > 40
    assert [predicted for predicted, _ in judged] == [starts for _, starts in judged]


@measured
@pytest.mark.parametrize("llm", ["llama-2-7b", "llama-2-13b"])
def test_the_first_engine_without_adapters(llm: str) -> None:
    """1 to 512 sequences; the 13B's starts gave the constant, the 7B's nothing."""
    with SWEEP.open() as file:
        rows = [row for row in csv.DictReader(file) if row["run"].startswith("background") and row["model"] == llm]
    error = []
    for row in rows:
        limits = config(0, 8, max_num_seqs=int(float(row["max_num_seqs"])), max_model_len=2048)
        error.append(first_engine(llm, "vllm-0.7.3", limits).tokens / float(row["kv_tokens"]) - 1)
    assert len(error) >= 12
    assert np.abs(error).max() < 0.0025


def test_the_first_engine_that_leaves_slots_out_of_its_account_is_refused_with_slots() -> None:
    with pytest.raises(InputError, match="max_loras = 8"):
        first_engine("llama-2-7b", "vllm-0.7.3", config(8, 16))


def test_the_first_engine_says_why_it_does_not_start() -> None:
    limits = {"max_num_seqs": 4096, "max_num_batched_tokens": 4096}
    assert "900 slots of rank 16 take" in first_engine("llama-2-7b", "vllm-0.5.4", config(900, 16, **limits)).reason
    small = config(1, 8, gpu_memory_utilization=0.2, **limits)
    assert "weights" in first_engine("llama-2-7b", "vllm-0.5.4", small).reason
