"""Adapters that others trained: names and ranks, and what vLLM would refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loratwin.errors import DataError, InputError
from loratwin.synthetic import lora_modules_args, read_adapters

PLAIN = {"peft_type": "LORA", "r": 8, "target_modules": "all-linear", "use_rslora": True, "bias": "none"}


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({**PLAIN, **changes}))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_names_and_ranks_are_those_of_the_folders(tmp_path: Path) -> None:
    write(tmp_path / "all" / "support")
    write(tmp_path / "all" / "legal", rank_pattern={"q_proj": 32, "^v": 4})
    found = read_adapters(tmp_path / "all")
    assert [(each.name, each.rank) for each in found] == [("legal", 32), ("support", 8)]
    assert lora_modules_args(tmp_path / "all")[1] == f"legal={tmp_path / 'all' / 'legal'}"
    assert [each.name for each in read_adapters(tmp_path / "all" / "support")] == ["support"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True, "bias": "all"}, "DoRA is not supported; bias is 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": 1024}, "rank 1024 is above 512"),
        ({"rank_pattern": {"q_proj": 1024}}, "rank 1024 is above 512"),
        ({"peft_type": "IA3"}, "peft_type is IA3, not LORA"),
    ],
)
def test_what_vllm_refuses_is_said_before_it_starts(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / "a", **changes)
    with pytest.raises(InputError, match=message):
        read_adapters(tmp_path)


def test_damaged_adapters(tmp_path: Path) -> None:
    write(tmp_path / "a", r="8")
    with pytest.raises(DataError, match="r, the rank, must be a whole number"):
        read_adapters(tmp_path)
    (write(tmp_path / "b" / "c") / "adapter_model.safetensors").unlink()
    with pytest.raises(DataError, match="the weights are missing"):
        read_adapters(tmp_path / "b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot read"):
        read_adapters(tmp_path / "empty")
