"""Profiles without measurement: tables that are right, scaling that does what it says, marks that stay."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.llms import find_llm, llm_names
from loratwin.perf import (
    AssumedMemory,
    Profile,
    assume,
    assume_memory,
    dump_profile,
    find_gpu,
    gpu_names,
    kv_capacity,
    load_profile,
)
from loratwin.perf.assume import TRANSFER, shipped_references
from loratwin.perf.compare import decode_step_s
from loratwin.records import EngineConfig
from loratwin.simulate import simulate
from loratwin.tables import read_yaml_table
from loratwin.workload import draw
from tests.simulate.servers import CONFIG, SPEC

LLAMA, QWEN = shipped_references()
MODEL_CARDS = read_yaml_table("loratwin.llms.tables", "llms.yaml")
SAME_GPU, H100, H200, L4 = (find_gpu(name) for name in ("h100-64gb", "h100-sxm", "h200", "l4"))


def test_there_are_enough_gpus_and_llms() -> None:
    assert len(gpu_names()) >= 15
    assert len(llm_names()) >= 25


@pytest.mark.parametrize("name", gpu_names())
def test_a_gpu_is_of_this_world(name: str) -> None:
    gpu = find_gpu(name)
    assert gpu.source
    assert 10 < gpu.memory_gib < 300
    assert 30 < gpu.flops / gpu.memory_bytes_per_s < 700, "operations per byte"


@pytest.mark.parametrize("name", llm_names())
def test_the_shapes_have_as_many_parameters_as_the_model_card_says(name: str) -> None:
    assert find_llm(name).num_parameters / 1e9 == pytest.approx(MODEL_CARDS[name]["billions"], rel=1e-3)


@pytest.mark.parametrize("measured", [LLAMA.llm, QWEN.llm], ids=lambda llm: llm.name)
def test_the_measured_llms_are_in_the_table_as_they_were_measured(measured: Any) -> None:
    assert find_llm(measured.name) == measured
    assert find_llm(measured.repository) == measured


def test_which_layers_get_buffers_depends_on_the_version() -> None:
    """`embedding_modules` of vLLM's model classes."""
    found = [
        [find_llm(name, engine).lora_on_vocabulary for engine in ("vllm-0.8.5", "vllm-0.32.0")]
        for name in ("llama-3.1-8b-instruct", "mistral-7b-instruct-v0.3", "qwen-3-8b", "qwen-2.5-7b-instruct")
    ]
    assert found == [[True, True], [True, False], [False, True], [False, False]]


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(InputError, match="unknown GPU 'h100'.*h100-sxm"):
        find_gpu("h100")
    with pytest.raises(InputError, match="unknown LLM 'llama-9'.*llama-3.1-8b-instruct"):
        find_llm("llama-9")
    with pytest.raises(InputError, match="Did you mean 'h100-"):
        find_gpu("H100")
    with pytest.raises(InputError, match="Did you mean 'llama-3.1-8b-instruct'"):
        find_llm("meta-llama/Llama-3.1-8B-Instruc")


def test_labels_of_gke_nodes_are_gpus() -> None:
    """As https://cloud.google.com/kubernetes-engine/docs/concepts/gpus has them; taken whole, not by their words."""
    labels = ("nvidia-h100-80gb", "nvidia-h100-mega-80gb", "nvidia-h200-141gb", "nvidia-tesla-a100", "nvidia-a100-80gb",
              "nvidia-l4", "NVIDIA-TESLA-T4", "nvidia-b200", "nvidia-gb200", "nvidia-rtx-pro-6000")  # fmt: skip
    assert [find_gpu(label).name for label in labels] == [
        "h100-sxm", "h100-sxm", "h200", "a100-40gb", "a100-80gb", "l4", "t4", "b200", "gb200", "rtx-pro-6000-server",
    ]  # fmt: skip
    with pytest.raises(InputError, match="unknown GPU 'h100-80gb'"):
        find_gpu("h100-80gb")


@pytest.mark.parametrize("reference", [LLAMA, QWEN], ids=lambda profile: profile.llm.name)
def test_what_was_measured_is_assumed_as_it_was_measured(reference: Profile) -> None:
    """Scaled from itself to itself, a profile stays what it is; of its steps the sum of operations says the shape."""
    again = assume(SAME_GPU, reference.llm, reference.engine, references=[reference])
    for part in ("loading", "frontend", "memory"):
        expected, found = (getattr(each, part).model_dump(exclude_none=True) for each in (reference, again))
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=0.02), part
    for batch in (1, 32, 128, 256):
        for slots in (0, 32):
            assert decode_step_s(again, batch, slots) == pytest.approx(decode_step_s(reference, batch, slots), rel=0.02)
    prompt = np.array([2048.0])
    assert again.step_time.dense_s(prompt) == pytest.approx(reference.step_time.dense_s(prompt), rel=0.03)


def test_a_later_engine_launches_faster_and_one_learned_from_launches_as_it_does() -> None:
    old, new, newest = (assume(H100, QWEN.llm, engine) for engine in ("vllm-0.8.5", "vllm-0.11.0", "vllm-0.23.0"))
    steps = [decode_step_s(each, 32, 0) for each in (old, new, newest)]
    assert steps == sorted(steps, reverse=True)
    slow = newest.model_copy(update={"step_time": newest.step_time.scaled(1.3)})
    again = assume(H100, QWEN.llm, "vllm-0.23.0", references=[slow])
    assert decode_step_s(again, 1, 0) == pytest.approx(decode_step_s(slow, 1, 0), rel=0.01)


@cache
def from_one(llama: bool) -> Profile:
    """The other of both measured profiles, learned from this one."""
    known, other = (LLAMA, QWEN) if llama else (QWEN, LLAMA)
    return assume(SAME_GPU, other.llm, known.engine, references=[known])


@pytest.mark.parametrize(("known", "other"), [(LLAMA, QWEN), (QWEN, LLAMA)], ids=["to qwen", "to llama"])
@pytest.mark.parametrize("slots", [0, 32])
@pytest.mark.parametrize("batch", [1, 64, 256])
def test_from_one_llm_to_the_other_a_decode_step_is_right_to_about_a_fifth(
    known: Profile, other: Profile, slots: int, batch: int
) -> None:
    expected = decode_step_s(other, batch, slots)
    assert decode_step_s(from_one(known is LLAMA), batch, slots) == pytest.approx(
        expected, rel=0.22
    )  # Qwen penalizes repetition


def test_faster_memory_makes_faster_steps() -> None:
    times = [decode_step_s(assume(gpu, LLAMA.llm), 64, 8) for gpu in (H200, SAME_GPU, L4)]
    assert times == sorted(times)
    assert times[2] > 3 * times[0]


def test_two_gpus_are_faster_than_one_but_not_twice() -> None:
    one, two = (decode_step_s(assume(SAME_GPU, LLAMA.llm, tensor_parallel=t), 64, 8) for t in (1, 2))
    assert 0.5 * one < two < one


def test_all_reduces_cost_more_without_nvlink() -> None:
    step = {
        name: decode_step_s(assume(find_gpu(name), LLAMA.llm, tensor_parallel=4), 64, 0)
        for name in ("a100-80gb", "a100-80gb-pcie")
    }
    assert step["a100-80gb-pcie"] > 1.2 * step["a100-80gb"]


def test_an_llm_too_large_for_one_gpu_starts_on_four() -> None:
    llm, config = find_llm("llama-3.3-70b-instruct"), EngineConfig(max_loras=8, max_model_len=8192)
    starts = [
        kv_capacity(llm, assume(find_gpu("h100-sxm"), llm, tensor_parallel=t).memory, config).starts for t in (1, 4)
    ]
    assert starts == [False, True]


def test_heads_must_be_dealt_evenly() -> None:
    with pytest.raises(InputError, match="tensor_parallel = 3, but it must divide the 32 heads"):
        assume(SAME_GPU, LLAMA.llm, tensor_parallel=3)
    with pytest.raises(InputError, match="tensor_parallel = 7, but it must divide the 4 key and value heads"):
        assume(SAME_GPU, QWEN.llm.model_copy(update={"intermediate_size": 7 * 2048}), tensor_parallel=7)
    with pytest.raises(InputError, match="tensor_parallel = 7, but it must divide the 18944 intermediate features"):
        assume(SAME_GPU, QWEN.llm, tensor_parallel=7)
    assert assume(SAME_GPU, find_llm("gemma-2b-it"), tensor_parallel=8).memory.tensor_parallel == 8  # one head repeated


def test_what_an_engine_fills_by_default_is_no_departure() -> None:
    older, newer = (assume(SAME_GPU, QWEN.llm, engine) for engine in ("vllm-0.8.5", "vllm-0.32.0"))
    assert (older.gpu_memory_utilization, newer.gpu_memory_utilization) == (0.9, 0.92)
    assert older.domain == LLAMA.domain and newer.domain.gpu_memory_utilization == (0.9, 0.92)


def test_later_engines_reserve_no_extra_vocabulary_and_count_their_graphs() -> None:
    old, new = (assume(SAME_GPU, LLAMA.llm, engine=engine).memory for engine in ("vllm-0.8.5", "vllm-0.32.0"))
    assert isinstance(old, AssumedMemory) and isinstance(new, AssumedMemory)
    assert (old.extra_vocabulary, old.graphs_counted) == (256, False)
    assert (new.extra_vocabulary, new.graphs_counted) == (0, True)


def test_everything_made_with_it_says_that_it_is_assumed(tmp_path: Path) -> None:
    profile = assume(H200, LLAMA.llm)
    path = tmp_path / "mine.yaml"
    path.write_text(dump_profile(profile))
    again = load_profile(str(path))
    assert again == profile
    run = simulate(draw(SPEC, seed=1), again, CONFIG)
    assert any("is assumed, not measured" in note for note in run.provenance.notes)


def test_the_uncertainty_is_wider_where_no_operations_were_measured() -> None:
    rng = np.random.default_rng(0)
    spread = [
        np.std([np.log(decode_step_s(assumed.sample(rng), 64, 0)) for _ in range(300)])
        for assumed in (assume(gpu, LLAMA.llm, "vllm-0.23.0") for gpu in (H200, L4))
    ]
    assert 0.03 < spread[0] < 0.8 * spread[1] < 0.2


def test_the_memory_alone_is_that_of_the_profile() -> None:
    llm = find_llm("qwen-3-8b", "vllm-0.32.0")
    assert assume_memory(H200, llm, "vllm-0.32.0", 2) == assume(H200, llm, "vllm-0.32.0", 2).memory


def test_of_the_first_engine_one_gpu_is_known_and_no_profile_is_made() -> None:
    llm = find_llm("llama-2-7b", "vllm-0.5.4")
    assert assume_memory(SAME_GPU, llm, "vllm-0.5.4").gpu_gib == SAME_GPU.memory_gib
    with pytest.raises(InputError, match="tensor_parallel = 2"):
        assume_memory(SAME_GPU, llm, "vllm-0.5.4", tensor_parallel=2)
    with pytest.raises(InputError, match="the memory alone is known"):
        assume(SAME_GPU, llm, "vllm-0.5.4")


def test_saturated_servers_elsewhere_are_as_unsure_as_public_runs_say() -> None:
    known = assume(find_gpu("a100-80gb"), find_llm("llama-3.1-8b-instruct"), "vllm-0.11.0").uncertainty
    fitted = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct").uncertainty
    assert known is not None and fitted is not None
    for figure, half_width in TRANSFER.items():
        there = fitted.residual["saturated"].get(figure, (0.0,) * 4)[2]
        assert known.error(figure, "saturated", 0.9) == pytest.approx((there**2 + half_width**2) ** 0.5)
    assert known.residual["open"] == fitted.residual["open"]
