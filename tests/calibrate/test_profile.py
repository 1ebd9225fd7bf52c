"""The parts of a profile beside the step time: the memory that servers tell."""

from __future__ import annotations

import pytest

from loratwin.calibrate.profile import memory_of
from loratwin.llms import find_llm
from loratwin.perf import MemoryModel, kv_capacity
from loratwin.records import EngineConfig

LLAMA = find_llm("llama-3.1-8b-instruct")


def config(slots: int) -> EngineConfig:
    return EngineConfig(max_loras=slots, max_lora_rank=64, max_num_seqs=64, max_model_len=8192)


@pytest.mark.parametrize(("extra", "gpus"), [(0, 1), (256, 1), (256, 2)])
def test_a_gpus_kv_cache_is_known_with_slots_that_were_not_measured(extra: int, gpus: int) -> None:
    """The extra vocabulary and GPUs that share the LLM count, in weights, keys and values, and slots."""
    truth = MemoryModel(gpu_gib=39.4, other_gib=0.7, sampler_copies=4.0, extra_vocabulary=extra, tensor_parallel=gpus)
    told = [(config(slots), kv_capacity(LLAMA, truth, config(slots)).tokens) for slots in (2, 8)]
    found = memory_of(told, LLAMA, False, extra, gpus)
    for slots in (2, 8, 48):
        wanted = kv_capacity(LLAMA, truth, config(slots)).tokens
        assert kv_capacity(LLAMA, found, config(slots)).tokens == pytest.approx(wanted, rel=0.005)
    assert found.gpu_gib == pytest.approx(39.4, rel=0.01) and found.tensor_parallel == gpus
