"""Reading a server's arguments, and the configuration that follows from them."""

from __future__ import annotations

from typing import Any

import pytest

from loratwin.engines import config
from loratwin.engines.arguments import as_arguments, flag, masked, option, whole_number, without
from loratwin.engines.config import engine_config
from loratwin.engines.serving import Facts, engine, full_command, take_model
from loratwin.errors import InputError

WORDS = (
    "--model",
    "x",
    "--max_loras=4",
    "-tp",
    "2",
    "--max-loras",
    "8",
    "--enable-lora",
    "--lora-modules",
    "a=b",
    "c=d",
)


def test_the_last_of_an_option_counts_under_either_spelling() -> None:
    assert option(WORDS, "--max-loras") == "8"
    assert option(WORDS[:3], "--max-loras") == "4"
    assert option(WORDS, "--enable-lora") == ""
    assert option(WORDS, "--lora-modules") == "a=b c=d"
    assert option(WORDS, "--max-cpu-loras") is None
    assert option(("--max-model-len", "-1"), "--max-model-len") == "-1"


def test_of_a_switch_and_its_opposite_the_last_one_counts() -> None:
    assert flag(("--enable-lora",), "--enable-lora") is True
    assert flag((), "--enable-lora") is False
    assert flag(("--enable-lora", "--no_enable_lora"), "--enable-lora") is False
    assert flag(("--no-enable-lora", "--enable_lora"), "--enable-lora") is True


def test_options_are_taken_out_with_all_their_values() -> None:
    assert without(WORDS, "--max-loras", "--lora-modules") == ("--model", "x", "-tp", "2", "--enable-lora")


def test_secrets_are_masked() -> None:
    words = ("--api-key", "k1", "k2", "--hf_token=h", "--port", "1", "--ssl-keyfile-password", "p")
    shown = ("--api-key", "***", "***", "--hf_token=***", "--port", "1", "--ssl-keyfile-password", "***")
    assert masked(words) == shown


def test_text_is_split_and_lists_are_not() -> None:
    assert as_arguments("--a 'b c' --d") == ("--a", "b c", "--d")
    assert as_arguments(["--a", "b c"]) == ("--a", "b c")


@pytest.mark.parametrize(("text", "value"), [("8192", 8192), ("8k", 8000), ("8K", 8192), ("25.6k", 25_600)])
def test_numbers_are_read_as_vllm_does(text: str, value: int) -> None:
    assert whole_number(text, "--x") == value


def test_the_llm_comes_as_an_option_or_first() -> None:
    vllm, sglang = engine("vllm"), engine("sglang")
    assert take_model(vllm, ("--a", "1", "--model", "x")) == ("x", ("--a", "1"))
    assert take_model(vllm, ("x", "--a", "1")) == ("x", ("--a", "1"))
    assert take_model(sglang, ("--model-path=x", "--a")) == ("x", ("--a",))
    assert full_command(vllm, ["vllm", "serve"], "x", ["--a"]) == ["vllm", "serve", "x", "--a"]
    assert full_command(sglang, ["py", "-m", "s"], "x", ["--a"]) == ["py", "-m", "s", "--model-path", "x", "--a"]


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_gpu", lambda: ("NVIDIA H100 80GB HBM3", 79.6))


CONFIGS: list[tuple[str, Facts, dict[str, Any]]] = [
    ("", Facts(version="0.8.5"), {"max_loras": 0, "max_num_seqs": 1024, "max_num_batched_tokens": 8192}),
    ("", Facts(version="0.18.1"), {"gpu_memory_utilization": 0.9}),
    ("", Facts(version="0.33.0"), {"gpu_memory_utilization": 0.92, "max_cpu_loras": None}),
    ("--enable-lora", Facts(), {"max_loras": 1, "max_cpu_loras": 1, "max_lora_rank": 16}),
    ("--enable-lora --max-loras 8", Facts(), {"max_loras": 8, "max_cpu_loras": 8}),
    ("--enable-lora --max-loras 8 --max-cpu-loras 30", Facts(), {"max_cpu_loras": 30}),
    ("--max-model-len auto", Facts(max_model_len=4096), {"max_model_len": 4096}),
    ("--max-model-len 2K", Facts(max_model_len=4096), {"max_model_len": 2048}),
    ("--max-num-seqs 9000", Facts(), {"max_num_batched_tokens": 9000}),
    ("--max-num-batched-tokens 100", Facts(), {"max_num_seqs": 100}),  # as vLLM's arg_utils.py has it
    ("--enable-lora --max-loras 8 --no-enable-lora", Facts(), {"max_loras": 0, "max_cpu_loras": None}),
    ("", Facts(block_size=64), {"block_size": 64}),
    ("", Facts(block_size=272), {"block_size": 16}),  # a hybrid LLM: left out rather than refused after the start
]


@pytest.mark.usefixtures("h100")
@pytest.mark.parametrize(("words", "facts", "expected"), CONFIGS)
def test_arguments_then_facts_then_defaults(words: str, facts: Facts, expected: dict[str, Any]) -> None:
    found = engine_config(engine("vllm"), as_arguments(words), facts).model_dump()
    assert {key: found[key] for key in expected} == expected


LIMITS = [
    ("", 0.0, None, (128, 2048)),
    ("NVIDIA A100-SXM4-80GB", 79.3, "0.8.5", (1024, 8192)),
    ("NVIDIA A100-SXM4-80GB", 79.3, "0.9.2", (256, 2048)),
    ("NVIDIA H100", 63.4, "0.8.5", (256, 2048)),
    ("NVIDIA B200", 178.0, "0.25.1", (1024, 8192)),
    ("NVIDIA B200", 178.0, "0.33.0", (1024, 16384)),
]


@pytest.mark.parametrize(("gpu", "memory_gib", "version", "limits"), LIMITS)
def test_default_limits_by_gpu_and_version(
    gpu: str, memory_gib: float, version: str | None, limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of engine.md 1.3."""
    monkeypatch.setattr(config, "_gpu", lambda: (gpu, memory_gib))
    found = engine_config(engine("vllm"), (), Facts(version=version))
    assert (found.max_num_seqs, found.max_num_batched_tokens) == limits


def test_sglang_has_lora_when_adapters_are_given() -> None:
    sglang = engine("sglang")
    assert engine_config(sglang, ()).max_loras == 0
    assert engine_config(sglang, ("--lora-paths", "a=b")).max_loras == 8
    found = engine_config(sglang, as_arguments("--enable-lora --max-loaded-loras 50 --chunked-prefill-size -1"))
    assert (found.max_loras, found.max_cpu_loras, found.max_num_batched_tokens) == (8, 50, 8192)


def test_the_gpu_is_what_nvidia_smi_says(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559'\necho 'NVIDIA H100 80GB HBM3, 81559'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert config._gpu() == ("NVIDIA H100 80GB HBM3", 81559 / 1024)
    program.write_text("#!/bin/sh\nexit 9\n")
    assert config._gpu() == ("", 0.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [("--max-loras many", "--max-loras 'many' is no whole number"), ("--gpu-memory-utilization x", "is no number")],
)
def test_what_is_no_number_is_refused(words: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        engine_config(engine("vllm"), as_arguments(words))
    assert message in str(error.value)
