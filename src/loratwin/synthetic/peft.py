"""Adapters that others trained, in PEFT's layout: names and ranks, and what vLLM would refuse, before it starts."""

from __future__ import annotations

from pathlib import Path

from loratwin.errors import DataError, InputError
from loratwin.workload.adapter_checks import refused_adapter
from loratwin.workload.adapter_folder import largest_rank, read_config

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")


def peft_rank(folder: Path) -> int:
    """The rank that an adapter needs of a slot: its largest.

    Raises
    ------
    DataError
        Its config is damaged, or its weights are missing.
    InputError
        vLLM refuses it (`refused_adapter`); all reasons are said.
    """
    config = read_config(folder)
    problems = list(refused_adapter(config))
    if problems:
        raise InputError(f"{folder}: vLLM does not serve this adapter: {'; '.join(problems)}")
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise DataError(f"{folder}: the weights are missing ({_WEIGHTS[0]})")
    return largest_rank(config)
