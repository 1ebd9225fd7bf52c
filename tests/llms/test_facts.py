"""What `loratwin llm show` says, against what is worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratwin.errors import InputError
from loratwin.llms import check_dealt, find_llm, llm_facts
from tests.cli.program import loratwin

LLAMA = """\
llama-3.1-8b-instruct (meta-llama/Llama-3.1-8B-Instruct), vllm-0.8.5
  parameters     8.03 billion
  weights        14.96 GiB, 16 bits
  KV per token   131,072 bytes (numbers of 2 bytes)
  KV per request 16.00 GiB at 131,072 tokens
  context        131,072 tokens: max_position_embeddings
  layers
    32 x attention: full, 32 heads of 128, 8 of keys and values; feed-forward: dense, 14,336
         218 million parameters, bfloat16; keeps 4,096 bytes a token
  adapters       of qkv_proj, o_proj, gate_up_proj, down_proj, embedding and
                 head
    a slot of rank 8: 50 MiB, 16: 94.1 MiB, 32: 182 MiB, 64: 358 MiB, 128: 711 MiB
  speed          can be assumed on any GPU of the table (loratwin profiles
                 assume)
"""


def test_a_dense_llm_is_shown_with_the_slots_of_the_engine_facts() -> None:
    """engine.md 2.2: 50.0, 94.1, 182.2, 358.4, 710.8 MiB on 0.8.5."""
    done = loratwin("llm", "show", "llama-3.1-8b-instruct", "--engine", "vllm-0.8.5")
    assert (done.returncode, done.stdout) == (0, LLAMA)


def test_json_has_every_digit() -> None:
    done = loratwin("llm", "show", "Qwen/Qwen3-30B-A3B", "--tensor-parallel", "2", "--json")
    said = json.loads(done.stdout)
    assert said == llm_facts("Qwen/Qwen3-30B-A3B", None, 2).as_plain()
    assert (said["parameters"], said["kv_bytes_per_token"]) == (30_532_122_624, 48 * 2 * 2 * 128 * 2)
    attention, norms = 2048 * (4096 + 2 * 512) + 4096 * 2048, 2 * 2048 + 2 * 128
    assert said["kinds"][0]["parameters"] == 128 * 3 * 2048 * 768 + 2048 * 128 + attention + norms
    assert said["speed_unknown"] == "" and llm_facts("deepseek-v3").speed_unknown == ""


def test_a_mixture_of_windows_and_states_says_what_each_kind_keeps() -> None:
    """Gemma 3 27B: 52 layers of 1,024 tokens of 16 heads of 128, and 10 that keep all; 8,192 bytes of a token each."""
    facts = llm_facts("google/gemma-3-27b-it")
    assert [(kind.count, kind.bytes_per_token, kind.bytes_per_request) for kind in facts.kinds] == [
        (52, 0, 1024 * 8192), (10, 8192, 0)
    ]  # fmt: skip
    assert facts.kv_bytes_per_token == 10 * 8192
    assert facts.kv_bytes_per_request == 10 * 8192 * 131_072 + 52 * 8192 * 1024
    hybrid = llm_facts("nvidia/NVIDIA-Nemotron-Nano-9B-v2")
    assert hybrid.state_bytes_per_request == 27 * (128 * 80 * 128 * 2 + 3 * (10_240 + 2 * 8 * 128) * 2)
    assert hybrid.kv_bytes_per_request == 131_072 * 4 * 4096 + hybrid.state_bytes_per_request


def test_a_folder_is_shown_too(tmp_path: Path) -> None:
    config = {
        "model_type": "mixtral", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 512,
        "num_local_experts": 4, "num_experts_per_tok": 2, "quantization_config": {"quant_method": "fp8"},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    shown = loratwin("llm", "show", str(tmp_path)).stdout
    assert f"({tmp_path}), vllm-" in shown and "4 experts of 128, 2 used" in shown
    assert "GiB, FP8" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("llama-9",), "unknown LLM 'llama-9'"),
        (("llama-3.1-8b-instruct", "--tensor-parallel", "3"), "tensor_parallel = 3, but it must divide the 32 heads"),
        (("llama-3.1-8b-instruct", "--engine", "tgi-2"), "tgi-2"),
    ],
)
def test_what_cannot_be_shown_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = loratwin("llm", "show", *arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


def test_experts_are_dealt_out_by_their_features() -> None:
    check_dealt(find_llm("Qwen/Qwen3-30B-A3B"), 16)
    with pytest.raises(InputError, match="tensor_parallel = 64, but it must divide the 32 heads of qwen-3-30b-a3b"):
        check_dealt(find_llm("Qwen/Qwen3-30B-A3B"), 64)
    with pytest.raises(InputError, match="tensor_parallel = 48, but it must divide the 64 heads of gpt-oss-20b"):
        check_dealt(find_llm("openai/gpt-oss-20b"), 48)
