"""Reading a server's arguments, and the configuration that follows from them."""

from __future__ import annotations

from typing import Any

import pytest

from loratwin.engines import config
from loratwin.engines.arguments import ServerArguments
from loratwin.engines.config import engine_config
from loratwin.engines.engine import ServerGpu
from loratwin.engines.facts import ServerFacts
from loratwin.engines.options import whole_number
from loratwin.engines.registry import find_engine, recorded_arguments
from loratwin.engines.start import full_command
from loratwin.errors import InputError
from loratwin.records import Provenance

WORDS = "--model x --max_loras=4 -tp 2 --max-loras 8 --enable-lora --lora-modules a=b c=d"


def vllm(words: str) -> ServerArguments:
    return ServerArguments(find_engine("vllm"), words)


def sglang(words: str) -> ServerArguments:
    return ServerArguments(find_engine("sglang"), words)


def test_the_last_of_an_option_counts_under_either_spelling() -> None:
    given = vllm(WORDS)
    assert given.whole("max_loras") == given.value("max_loras") == 8
    assert given.whole("tensor_parallel") == 2
    assert given.is_on("enable_lora") is given.value("enable_lora") is True
    assert given.text("lora_modules") == "a=b c=d"
    assert given.text("max_cpu_loras") is None and "max_cpu_loras" not in given
    assert vllm("--max-model-len -1").text("max_model_len") == "-1"
    assert vllm("--max-model-len -1").value("max_model_len") is None  # the engine decides


def test_of_a_switch_and_its_opposite_the_last_one_counts() -> None:
    assert vllm("").is_on("enable_lora") is False
    assert vllm("--enable-lora --no_enable_lora").is_on("enable_lora") is False
    assert vllm("--no-enable-lora --enable_lora").is_on("enable_lora") is True
    assert vllm("--enable-lora --no-enable-lora").spelled("enable_lora") == ""
    assert vllm("--max_num_seqs=4").spelled("max_num_seqs") == "--max-num-seqs 4"


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [("-q awq", "quantization", "awq"), ("-qawq", "quantization", "awq"), ("-q=awq", "quantization", "awq"),
     ("-tp=2", "tensor_parallel", "2"), ("-pp 3", "pipeline_parallel", "3"), ("--quant awq", "quantization", "awq"),
     ("--tensor_par=4", "tensor_parallel", "4"), ("--max-num-b 5", "max_num_batched_tokens", "5"),
     ("--device-memory-utilization .5", "gpu_memory_utilization", ".5"), ("-O3 -dp 2", "data_parallel", "2")],
)  # fmt: skip
def test_abbreviations_and_beginnings(words: str, field: str, value: str) -> None:
    assert vllm(words).text(field) == value


def test_each_engine_has_names_of_its_own_for_the_same() -> None:
    given = sglang("--model-path x --max-loras-per-batch 4 --tp 2 --disable-cuda-graph --context-length 8K")
    assert (given.model, given.whole("max_loras"), given.whole("tensor_parallel")) == ("x", 4, 2)
    assert given.is_on("enforce_eager") and given.whole("max_model_len") == 8192
    assert vllm("--max-loras-per-batch 4").whole("max_loras") is None


def test_options_are_taken_out_with_all_their_values_and_put_in() -> None:
    given = vllm(WORDS)
    assert given.without("max_loras", "lora_modules").words == ("--model", "x", "-tp", "2", "--enable-lora")
    assert given.without("model").words == tuple(WORDS.split()[2:])
    assert vllm("x --port 1").without("model").words == ("--port", "1")
    put = vllm("--port 1 --unknown a b").put(port=2, host=None)
    assert put.words == ("--unknown", "a", "b", "--port", "2")
    assert given.plus("--max-loras 9").whole("max_loras") == 9 and given.whole("max_loras") == 8


@pytest.mark.parametrize(
    ("words", "shown"),
    [("--api-key k1 k2 --hf_token=h --port 1", "--api-key *** *** --hf_token=*** --port 1"),
     ("--ssl-keyfile-password p", "--ssl-keyfile-password ***"), ("--api-k k", "--api-k ***"),
     ("--ssl-keyfile f", "--ssl-keyfile f"), ("--ssl-k p", "--ssl-k ***"),
     ("--admin-api-key k", "--admin-api-key ***")],
)  # fmt: skip
def test_secrets_are_masked(words: str, shown: str) -> None:
    assert vllm(words).shown == tuple(shown.split())
    assert vllm(words).words == tuple(words.split())
    assert repr(vllm(words)) == f"<ServerArguments of vllm: {shown}>"


def test_text_is_split_and_lists_are_not() -> None:
    assert vllm("--a 'b c' --d").words == ("--a", "b c", "--d")
    assert ServerArguments(find_engine("vllm"), ["--a", "b c"]).words == ("--a", "b c")
    with pytest.raises(InputError, match="No closing quotation"):
        vllm("--a 'b")


@pytest.mark.parametrize(("text", "value"), [("8192", 8192), ("8k", 8000), ("8K", 8192), ("25.6k", 25_600)])
def test_numbers_are_read_as_vllm_does(text: str, value: int) -> None:
    assert whole_number(text, "--x") == value


def test_the_llm_comes_as_an_option_or_without_one() -> None:
    assert vllm("--a 1 --model x").model == vllm("x --a 1").model == vllm("--enable-lora x").model == "x"
    assert sglang("--model-path=x --a").model == sglang("--model x").model == "x"
    assert full_command(vllm("--a --model x"), ["vllm", "serve"]) == ["vllm", "serve", "x", "--a"]
    assert full_command(sglang("--model x --a"), ["py", "-m", "s"]) == ["py", "-m", "s", "--model-path", "x", "--a"]
    with pytest.raises(InputError, match="name no LLM: add --model FOLDER-OR-NAME"):
        _ = vllm("--max-loras 4").model


@pytest.mark.parametrize(
    ("words", "message"),
    [("--max-lora 4", "--max-lora is the beginning of several options"), ("--max-loras", "--max-loras needs a value"),
     ("--enable-lora=true", "--enable-lora takes no value"), ("--model x --enable-lora true", "'true' belongs to no"),
     ("x --max-loras 4 5", "'5' belongs to no option")],
)  # fmt: skip
def test_what_argparse_refuses_or_takes_for_the_llm_is_refused(words: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine_config(vllm(words))


def test_parsed_arguments_are_read_again_for_another_engine() -> None:
    given = vllm("--tp 2")
    assert ServerArguments.of(find_engine("vllm"), given) is given
    assert ServerArguments.of(find_engine("sglang"), given).whole("tensor_parallel") == 2


def test_recorded_arguments_are_those_of_the_engine_that_was_measured() -> None:
    words = ("--tp", "2")
    assert recorded_arguments(Provenance(engine_version="sglang-0.5", server_args=words)).whole("tensor_parallel") == 2
    assert recorded_arguments(Provenance(server_args=("-tp", "2"))).whole("tensor_parallel") == 2
    assert recorded_arguments(Provenance(engine_version="vllm-0.8.5", server_args=words)).whole("data_parallel") is None


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_gpu", lambda: ServerGpu("NVIDIA H100 80GB HBM3", 79.6))


CONFIGS: list[tuple[str, ServerFacts, dict[str, Any]]] = [
    ("", ServerFacts(version="0.8.5"), {"max_loras": 0, "max_num_seqs": 1024, "max_num_batched_tokens": 8192}),
    ("", ServerFacts(version="0.18.1"), {"gpu_memory_utilization": 0.9}),
    ("", ServerFacts(version="0.33.0"), {"gpu_memory_utilization": 0.92, "max_cpu_loras": None}),
    ("--enable-lora", ServerFacts(), {"max_loras": 1, "max_cpu_loras": 1, "max_lora_rank": 16}),
    ("--enable-lora --max-loras 8", ServerFacts(), {"max_loras": 8, "max_cpu_loras": 8}),
    ("--enable-lora --max-loras 8 --max-cpu-loras 30", ServerFacts(), {"max_cpu_loras": 30}),
    ("--max-model-len auto", ServerFacts(max_model_len=4096), {"max_model_len": 4096}),
    ("--max-model-len 2K", ServerFacts(max_model_len=4096), {"max_model_len": 2048}),
    ("--max-num-seqs 9000", ServerFacts(), {"max_num_batched_tokens": 9000}),
    ("--max-num-batched-tokens 100", ServerFacts(), {"max_num_seqs": 100}),  # as vLLM's arg_utils.py has it
    ("--enable-lora --max-loras 8 --no-enable-lora", ServerFacts(), {"max_loras": 0, "max_cpu_loras": None}),
    ("", ServerFacts(block_size=64), {"block_size": 64}),
    ("", ServerFacts(block_size=272), {"block_size": 16}),  # a hybrid LLM: left out rather than refused after the start
]


@pytest.mark.usefixtures("h100")
@pytest.mark.parametrize(("words", "facts", "expected"), CONFIGS)
def test_arguments_then_facts_then_defaults(words: str, facts: ServerFacts, expected: dict[str, Any]) -> None:
    found = engine_config(vllm(words), facts).model_dump()
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
    monkeypatch.setattr(config, "_gpu", lambda: ServerGpu(gpu, memory_gib))
    found = engine_config(vllm(""), ServerFacts(version=version))
    assert (found.max_num_seqs, found.max_num_batched_tokens) == limits


def test_sglang_has_lora_when_adapters_are_given() -> None:
    assert engine_config(sglang("")).max_loras == 0
    assert engine_config(sglang("--lora-paths a=b")).max_loras == 8
    found = engine_config(sglang("--enable-lora --max-loaded-loras 50 --chunked-prefill-size -1"))
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
        engine_config(vllm(words))
    assert message in str(error.value)
