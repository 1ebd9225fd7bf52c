"""`loratwin memory` and its call: a server by name, flags, stages, types of numbers; refusals in one line."""

from __future__ import annotations

import json

import pytest

from loratwin.errors import InputError
from loratwin.perf import find_gpu, gpu_names, server_memory
from loratwin.perf.gpus import with_memory
from loratwin.report import memory_text
from tests.cli.program import loratwin

L40S = "NVIDIA L40S"
LLAMA = "llama-3.1-8b-instruct"


def gib(name: str, **settings: object) -> float:
    found = server_memory(L40S, LLAMA, "vllm-0.25.1", **settings)  # type: ignore[arg-type]
    return next(part.gib for part in found.account.parts if part.name == name)


def test_what_is_not_told_is_as_the_version_has_it_on_the_gpu() -> None:
    small, large = (server_memory(gpu, LLAMA, "vllm-0.25.1").config for gpu in ("l40s", "h100-sxm"))
    assert (small.max_num_seqs, small.max_num_batched_tokens, small.max_loras) == (256, 2048, 0)
    assert (large.max_num_seqs, large.max_num_batched_tokens, large.gpu_memory_utilization) == (1024, 8192, 0.92)


def test_stages_share_the_layers() -> None:
    whole, half = gib("weights"), gib("weights", pipeline_parallel=2)
    embedding = 128_256 * 4096 * 2 / 2**30
    assert half == pytest.approx((whole - 2 * embedding) / 2 + embedding, rel=0.001)
    with pytest.raises(InputError, match="pipeline_parallel = 33: it must be 1 to 32"):
        gib("weights", pipeline_parallel=33)


def test_adapters_that_are_fully_sharded_take_half_of_what_they_did_not_share() -> None:
    whole, shared, sharded = (
        gib("slots", max_loras=32, max_lora_rank=64, tensor_parallel=t, fully_sharded_loras=full)
        for t, full in ((1, False), (4, False), (4, True))
    )
    assert sharded < 0.6 * shared < 0.6 * whole


def test_types_of_numbers() -> None:
    of_16, of_32, of_8 = gib("weights"), gib("weights", dtype="float32"), gib("weights", quantization="fp8")
    assert of_32 == pytest.approx(2 * of_16, rel=0.001)
    assert 0.5 * of_16 < of_8 < 0.6 * of_16
    with pytest.raises(InputError, match="dtype = 'int3', but it must be one of auto, bfloat16"):
        gib("weights", dtype="int3")
    assert gib("weights", quantization="bitsandbytes") == gib("weights", quantization="bnb-4bit") < of_8
    with pytest.raises(InputError, match="quantization = 'int3', but it must be one of fp8, awq"):
        gib("weights", quantization="int3")


def test_a_cache_of_a_given_size_is_that_size_and_must_fit() -> None:
    found = server_memory(L40S, LLAMA, "vllm-0.25.1", max_model_len=8192, kv_cache_memory_bytes=8 * 2**30)
    assert found.account.capacity.tokens == 8 * 2**30 / 131_072
    assert found.account.capacity.low == found.account.capacity.high == found.account.capacity.tokens
    assert found.account.capacity.starts
    over = server_memory(L40S, LLAMA, "vllm-0.25.1", max_model_len=8192, kv_cache_memory_bytes=40 * 2**30)
    assert not over.account.capacity.starts


def test_memory_may_be_told() -> None:
    told = server_memory("NVIDIA GeForce RTX 4090", LLAMA, gpu_memory_gib=23.99, max_model_len=8192).account
    assert told.gpu_gib == 23.99
    usual = server_memory("rtx-4090", LLAMA, max_model_len=8192).account
    assert told.capacity.high - told.capacity.low < usual.capacity.high - usual.capacity.low
    with pytest.raises(InputError, match="GPU memory = 0.5 GiB: it must be 1 to 1024"):
        with_memory(find_gpu("l4"), 0.5)


@pytest.mark.parametrize(
    ("printed", "name"),
    [("NVIDIA H100 80GB HBM3", "h100-sxm"), ("NVIDIA A100-SXM4-80GB", "a100-80gb"), ("Tesla T4", "t4"),
     ("NVIDIA A100-PCIE-40GB", "a100-40gb"), ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
     ("NVIDIA H100 NVL", "h100-nvl"),
     ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"), ("NVIDIA GeForce RTX 5090", "rtx-5090"),
     ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000"), ("NVIDIA GB10", "gb10"),
     ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-server"), ("A6000", "rtx-a6000"),
     ("Tesla V100-SXM2-32GB", "v100-32gb"), ("AMD Instinct MI325X", "mi325x"), ("H100-SXM", "h100-sxm")],
)  # fmt: skip
def test_gpus_go_by_what_nvidia_smi_prints(printed: str, name: str) -> None:
    assert find_gpu(printed).name == name


def test_every_gpu_has_its_own_names() -> None:
    assert [find_gpu(name).name for name in gpu_names()] == gpu_names()
    assert all(find_gpu(printed).name == name for name in gpu_names() for printed in find_gpu(name).printed)


def test_the_command_compares_slots_and_says_what_is_short() -> None:
    shown = loratwin("memory", L40S, LLAMA, "--engine", "vllm-0.25.1", "--max-loras", "8,300")
    assert shown.returncode == 0
    assert "8 x 16" in shown.stdout and "300 x 16" in shown.stdout and "8 slots: starts" in shown.stdout
    assert "300 slots: does not start" in shown.stdout


def test_the_command_as_json_is_the_call() -> None:
    shown = loratwin("memory", L40S, LLAMA, "--engine", "vllm-0.25.1", "--max-loras", "8", "--json")
    found = server_memory(L40S, LLAMA, "vllm-0.25.1", max_loras=8, max_lora_rank=16)
    assert json.loads(shown.stdout) == [json.loads(json.dumps(found.as_plain()))]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["b999", LLAMA], "unknown GPU 'b999'"), ([L40S, "llama-9"], "unknown LLM 'llama-9'"),
     ([L40S, LLAMA, "--engine", "vllm-0.3"], "the oldest vLLM"), ([L40S, LLAMA, "--max-loras", "x"], "--max-loras 'x'"),
     ([L40S, LLAMA, "--tensor-parallel", "3"], "tensor_parallel = 3"),
     ([L40S, LLAMA, "--kv-cache-dtype", "x"], "kv_cache")],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(words: list[str], said: str) -> None:
    shown = loratwin("memory", *words)
    assert shown.returncode == 2
    assert said in shown.stderr and len(shown.stderr.strip().splitlines()) == 1


def test_the_bar_is_as_long_as_the_memory() -> None:
    text = memory_text([server_memory(L40S, LLAMA, "vllm-0.25.1", max_loras=8, max_model_len=8192)])
    (bar,) = (line.strip() for line in text.splitlines() if line.strip().startswith("["))
    assert len(bar) == 74
    assert bar.count("K") == pytest.approx(72 * 24.46 / 44.4, abs=1)


def test_the_sampler_of_a_small_gpu_costs_a_part_of_its_cache() -> None:
    """An environment variable of the server, so no version tells it."""
    usual, sorting = (
        server_memory(
            "rtx-4090", "qwen-2.5-7b-instruct", "vllm-0.27.1", gpu_memory_gib=23.99, max_model_len=8192, sampler=kind
        )
        for kind in (None, "pytorch")
    )
    assert 0.7 < sorting.account.kv_gib / usual.account.kv_gib < 0.9
    with pytest.raises(InputError, match="sampler = 'dice', but it must be one of pytorch, flashinfer"):
        server_memory("rtx-4090", "qwen-2.5-7b-instruct", sampler="dice")
