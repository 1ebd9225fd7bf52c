"""Adapters that others trained, in PEFT's layout: names and ranks, and what vLLM would refuse, before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loratwin.errors import DataError, InputError
from loratwin.records.config import LORA_RANKS
from loratwin.workload.adapter_folder import largest_rank, read_config

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")


def peft_rank(folder: Path) -> int:
    """The rank that an adapter needs of a slot: its largest.

    Raises
    ------
    DataError
        Its config is damaged, or its weights are missing.
    InputError
        vLLM refuses it (`lora/peft_helper.py`: `validate_legal`, `_validate_features`); all reasons are said.
    """
    config = read_config(folder)
    rank = largest_rank(config)
    problems = list(_refused(config, rank))
    if problems:
        raise InputError(f"{folder}: vLLM does not serve this adapter: {'; '.join(problems)}")
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise DataError(f"{folder}: the weights are missing ({_WEIGHTS[0]})")
    return rank


def _refused(config: Mapping[str, Any], rank: int) -> Iterator[str]:
    if str(config.get("peft_type") or "LORA").upper() != "LORA":
        yield f"peft_type is {config['peft_type']}, not LORA"
    if config.get("use_dora"):
        yield "use_dora: DoRA is not supported"
    if config.get("modules_to_save"):
        yield f"modules_to_save {config['modules_to_save']}: only LoRA weights are served"
    if config.get("bias") not in (None, "none"):
        yield f"bias is {config['bias']!r}; it must be 'none'"
    if rank > LORA_RANKS[-1]:
        yield f"rank {rank} is above {LORA_RANKS[-1]}, the largest --max-lora-rank"
