"""Generations of the engine: which one a version behaves as, and what reaches the kernel."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.engines.versions import GENERATIONS, Device, Generation, engine_version, profile_run_of
from loratwin.errors import InputError
from loratwin.kernel import EngineRules
from loratwin.perf import EngineBehaviour, Profile, default_limits, generation_of, load_profile
from loratwin.records import EngineConfig
from loratwin.simulate import server_configs, simulate
from loratwin.workload import draw
from tests.simulate.servers import SPEC

LLAMA = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")


def of_engine(version: str) -> Profile:
    """The measured profile as if it were of another version."""
    data = LLAMA.model_dump(exclude={"behaviour"})
    return Profile.model_validate({**data, "engine": version})


def test_the_measured_version_is_the_default_behaviour() -> None:
    assert generation_of("vllm-0.8.5").behaviour == EngineBehaviour() == LLAMA.behaviour
    assert LLAMA.behaviour.rules(num_blocks=1000) == EngineRules()
    assert LLAMA.notes == ()


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda generation: generation.name)
def test_every_version_that_was_read_is_its_own_generation(generation: Generation) -> None:
    found = generation_of(generation.name)
    assert found.generation is generation
    assert not [note for note in found.notes if "was not read" in note]


@pytest.mark.parametrize(
    ("version", "generation"),
    [("vllm-0.8.5.post1", "vllm-0.8.5"), ("0.9.0", "vllm-0.9.2"), ("vllm-0.15.2", "vllm-0.14.0"),
     ("vllm-0.32.0+cpu", "vllm-0.32.0"), ("v0.32.1", "vllm-0.32.0"), ("vllm-1.2", "vllm-0.33.0")],
)  # fmt: skip
def test_another_version_behaves_as_the_nearest_older(version: str, generation: str) -> None:
    found = generation_of(version)
    assert found.generation.name == generation
    same_minor = engine_version(version)[:2] == found.generation.since[:2]
    assert any("was not read" in note for note in found.notes) is not same_minor


@pytest.mark.parametrize(
    ("version", "before", "told"),
    [
        ("0.14.0", "0.13.0", "async_scheduling"),
        ("0.20.0", "0.19.1", "graph_memory_in_budget"),
        ("0.25.1", "0.24.0", "reserve_full_prompt"),
    ],
)
def test_what_holds_from_which_version_on(version: str, before: str, told: str) -> None:
    assert getattr(generation_of(version).behaviour, told) is True
    assert getattr(generation_of(before).behaviour, told) is False


@pytest.mark.parametrize(
    ("version", "gib", "name", "device", "tokens", "sequences", "share"),
    [
        ("vllm-0.19.1", 79.6, "NVIDIA H100 80GB HBM3", "cuda", 8192, 1024, 0.9),
        ("vllm-0.20.0", 79.6, "NVIDIA H100 80GB HBM3", "cuda", 8192, 1024, 0.92),
        ("vllm-0.8.5", 63.4, "", "cuda", 2048, 256, 0.9),
        ("vllm-0.8.5", 79.3, "NVIDIA A100-SXM4-80GB", "cuda", 8192, 1024, 0.9),
        ("vllm-0.9.0", 79.3, "NVIDIA A100-SXM4-80GB", "cuda", 2048, 256, 0.9),
        ("vllm-0.27.1", 178.4, "NVIDIA B200", "cuda", 8192, 1024, 0.92),
        ("vllm-0.28.0", 178.4, "NVIDIA B200", "cuda", 16384, 1024, 0.92),
        ("vllm-0.32.0", 0.0, "", "cpu", 2048, 128, 0.92),
        ("", 178.4, "NVIDIA B200", "cuda", 16384, 1024, 0.92),
    ],
)
def test_defaults_by_version_and_gpu(
    version: str, gib: float, name: str, device: Device, tokens: int, sequences: int, share: float
) -> None:
    assert default_limits(version, gib, name, device) == (tokens, sequences, share)


@pytest.mark.parametrize("version", ["vllm-0.7.3", "vllm-0.6.0", "sglang-0.5", "vllm-9", "", "latest"])
def test_what_is_no_known_vllm_is_refused(version: str) -> None:
    with pytest.raises(InputError, match="vLLM"):
        generation_of(version)


@pytest.mark.parametrize(
    ("version", "float_logits", "charges_reserved"),
    [("vllm-0.4.2", False, True), ("0.5.0.post1", False, True), ("vllm-0.5.4", False, True), ("vllm-0.6.3", True, True),
     ("vllm-0.6.6.post1", True, False), ("vllm-0.7.3", True, False)],
)  # fmt: skip
def test_of_the_first_engine_the_memory_is_known_and_nothing_else(
    version: str, float_logits: bool, charges_reserved: bool
) -> None:
    how = profile_run_of(version)
    assert how is not None
    assert (how.float_logits, how.charges_reserved) == (float_logits, charges_reserved)
    with pytest.raises(InputError, match=r"the memory alone is known .* 0\.4\.2 to 0\.5\.4"):
        generation_of(version)


@pytest.mark.parametrize("version", ["vllm-0.3.0", "vllm-0.5.5", "vllm-0.6.4", "vllm-0.7.4"])
def test_memory_of_versions_that_measure_it_otherwise_is_refused(version: str) -> None:
    with pytest.raises(InputError, match="oldest vLLM"):
        profile_run_of(version)


def test_the_first_of_its_second_engine_are_taken_as_the_one_that_was_read() -> None:
    found = generation_of("vllm-0.8.2")
    assert (found.generation.name, len(found.notes)) == ("vllm-0.8.5", 1)
    assert profile_run_of("vllm-0.8.2") is None


def test_later_versions_need_no_profile_run() -> None:
    assert [profile_run_of(each.name) for each in GENERATIONS] == [None] * len(GENERATIONS)


def test_on_a_cpu_steps_are_scheduled_serially_and_there_are_no_graphs() -> None:
    gpu, cpu = generation_of("vllm-0.32.0").behaviour, generation_of("vllm-0.32.0", device="cpu").behaviour
    assert (gpu.async_scheduling, gpu.reserve_full_prompt, gpu.base_graphs) == (True, True, True)
    assert (cpu.async_scheduling, cpu.reserve_full_prompt, cpu.base_graphs) == (False, True, False)


@pytest.mark.parametrize(
    ("max_num_seqs", "largest"), [(256, 512.0), (1024, 512.0), (150, 288.0), (30, 56.0), (3, 4.0), (1, 2.0)]
)
def test_later_versions_have_graphs_up_to_twice_the_sequences(max_num_seqs: int, largest: float) -> None:
    """vLLM 0.32 `_set_cudagraph_sizes`: 1, 2, 4, by 8 to 256, by 16 up to min(2 max_num_seqs, 512)."""
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)]
    assert max(size for size in sizes if size <= min(2 * max_num_seqs, 512)) == largest
    assert generation_of("vllm-0.32.0").behaviour.graph_tokens(512.0, max_num_seqs) == largest
    assert generation_of("vllm-0.8.5").behaviour.graph_tokens(512.0, max_num_seqs) == 512.0


def test_the_watermark_is_a_part_of_all_blocks() -> None:
    behaviour = generation_of("vllm-0.32.0").behaviour.model_copy(update={"watermark": 0.01})
    assert behaviour.rules(num_blocks=1999).watermark_blocks == 19


@pytest.mark.parametrize(
    ("version", "gib", "name", "expected"),
    [
        ("vllm-0.8.5", 63.4, "h100", (2048, 256, 0.9)),
        ("vllm-0.8.5", 79.1, "NVIDIA A100 80GB", (8192, 1024, 0.9)),
        ("vllm-0.9.2", 79.1, "NVIDIA A100 80GB", (2048, 256, 0.9)),
        ("vllm-0.25.1", 178.0, "b200", (8192, 1024, 0.92)),
        ("vllm-0.32.0", 178.0, "b200", (16384, 1024, 0.92)),
        ("vllm-0.32.0", 79.1, "h100", (8192, 1024, 0.92)),
    ],
)
def test_defaults_of_the_server(version: str, gib: float, name: str, expected: tuple[int, int, float]) -> None:
    """engine.md 1.3, the table."""
    assert default_limits(version, gib, name) == expected


def test_a_later_engine_admits_later_and_keeps_finished_requests_a_step_longer() -> None:
    config = EngineConfig(max_loras=8, max_lora_rank=16)
    workload = draw(SPEC, seed=1)
    serial, ahead = simulate(workload, LLAMA, config), simulate(workload, of_engine("vllm-0.32.0"), config)
    assert ahead.provenance.engine_version == "vllm-0.32.0"
    waits = [np.nanmean(run.requests.admitted_s - run.requests.arrival_s) for run in (serial, ahead)]
    assert waits[1] > waits[0]


def test_a_version_between_says_so_in_every_result() -> None:
    workload = draw(SPEC, seed=1)
    run = simulate(workload, of_engine("vllm-0.15.0"), EngineConfig(max_loras=8))
    assert any("vllm-0.15.0 was not read" in note for note in run.provenance.notes)


def test_a_profile_has_the_limits_of_its_engine_on_its_gpu() -> None:
    assert LLAMA.limits == (2048, 256, 0.9)  # 63.4 GiB
    large = LLAMA.model_copy(update={"memory": LLAMA.memory.model_copy(update={"gpu_gib": 79.6})})
    assert large.limits == (8192, 1024, 0.9)
    (config,) = server_configs(SPEC, large, [4])
    assert (config.max_num_batched_tokens, config.max_num_seqs) == (8192, 1024)
    (config,) = server_configs(SPEC, LLAMA, [4], max_num_seqs=4096)
    assert config.max_num_batched_tokens == 4096
    (config,) = server_configs(SPEC, large, [4], max_num_batched_tokens=512)
    assert config.max_num_seqs == 512


def test_what_a_configuration_lacks_is_what_the_oldest_version_takes_on_a_small_gpu() -> None:
    """Records leave nothing out, but `EngineConfig(max_loras=8)` and files of old do; one number, in one place."""
    config = EngineConfig(max_loras=1)
    bare = (config.max_num_batched_tokens, config.max_num_seqs, config.gpu_memory_utilization)
    assert bare == default_limits(GENERATIONS[0].name, 40.0) == (2048, 256, 0.9)
