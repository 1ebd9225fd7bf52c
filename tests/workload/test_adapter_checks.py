"""Adapters that a server would refuse are refused before there is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loratwin.bench.servers import LaunchedServers
from loratwin.errors import DataError, InputError
from loratwin.llms import find_llm
from loratwin.workload.adapter_checks import check_folder

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
PLAIN = {"peft_type": "LORA", "r": 8, "base_model_name_or_path": LLAMA, "target_modules": "all-linear"}


def folder(place: Path, **changes: Any) -> Path:
    for name, config in (("a", PLAIN), ("b", {**PLAIN, **changes})):
        (place / name).mkdir(parents=True)
        (place / name / "adapter_config.json").write_text(json.dumps(config))
    return place


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 32}, "rank 32 is above the server's --max-lora-rank 16"),
        ({"rank_pattern": {"q_proj": 64}}, "rank 64 is above the server's"),
        ({"r": 1024}, "rank 1024 is above 512, the largest"),
        ({"use_dora": True}, "use_dora: DoRA is not supported"),
        (
            {"base_model_name_or_path": "Qwen/Qwen2.5-7B-Instruct"},
            "it is of Qwen/Qwen2.5-7B-Instruct .*, the server of",
        ),
        ({"base_model_name_or_path": "mistralai/Mistral-7B-v0.1"}, "it is of mistralai"),
    ],
)
def test_what_a_server_would_not_take(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"/b: the server would not take this adapter: {message}"):
        check_folder(folder(tmp_path, **changes), find_llm(LLAMA), 16)
    assert check_folder(tmp_path, find_llm(LLAMA), 16, names={"a"}) == (), "the other is not served"


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({}, ""),
        ({"target_modules": ["self_attn.q_proj", "lm_head"]}, ""),
        ({"target_modules": r".*\.(q|v)_proj"}, ""),
        ({"target_modules": r"model\.layers\.\d+\.mlp\.down_proj"}, ""),
        (
            {"target_modules": ["q_proj", "fc1"]},
            "target_modules has fc1, which llama-3.1-8b-instruct is not known",
        ),
        ({"target_modules": r".*\.c_attn"}, "matches no module of llama-3.1-8b-instruct"),
        ({"base_model_name_or_path": "meta-llama/Llama-3.1-8B"}, "has the shapes of llama-3.1-8b-instruct"),
        ({"base_model_name_or_path": "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit"}, "has the shapes of"),
        ({"base_model_name_or_path": "/srv/ours"}, "no LLM that is known by name"),
        ({"base_model_name_or_path": None}, "do not say of which LLM they are"),
    ],
)
def test_what_can_be_lived_with_is_said(tmp_path: Path, changes: dict[str, Any], remark: str) -> None:
    said = check_folder(folder(tmp_path, **changes), find_llm(LLAMA))
    assert [remark in each for each in said] == ([True] if remark else [])
    assert check_folder(tmp_path, None) == (), "without an LLM nothing is compared"


def test_a_pattern_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b: target_modules '\(q_proj' is no pattern"):
        check_folder(folder(tmp_path, target_modules="(q_proj"), find_llm(LLAMA))


def test_a_line_that_would_not_serve_its_adapters_is_not_started(tmp_path: Path) -> None:
    folder(tmp_path, r=32)
    line = f"--model {LLAMA} --enable-lora"
    servers = LaunchedServers(line, command="/no/such/server", lora_folder=tmp_path)
    refused = pytest.raises(InputError, match="b: the server would not take this adapter: rank 32 is above .* 16")
    with refused, servers.running(["a"], {}, tmp_path):
        pass
