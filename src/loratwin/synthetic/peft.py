"""Adapters that others trained, in PEFT's layout: names and ranks, and what vLLM would refuse, before it starts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loratwin.errors import DataError, InputError
from loratwin.records.config import LORA_RANKS

CONFIG = "adapter_config.json"

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")


def peft_folders(folder: Path) -> list[Path]:
    """Folders of adapters: the folder itself, or those in it, by name; none: it holds no adapters."""
    if (folder / CONFIG).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))


def peft_rank(folder: Path) -> int:
    """The rank that an adapter needs of a slot: its largest.

    Raises
    ------
    DataError
        Its config is damaged, or its weights are missing.
    InputError
        vLLM refuses it (`lora/peft_helper.py`: `validate_legal`, `_validate_features`); all reasons are said.
    """
    config = _config(folder)
    rank = max((config["r"], *_ranks(config, folder)))
    problems = list(_refused(config, rank))
    if problems:
        raise InputError(f"{folder}: vLLM does not serve this adapter: {'; '.join(problems)}")
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise DataError(f"{folder}: the weights are missing ({_WEIGHTS[0]})")
    return int(rank)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    rank = config.get("r") if isinstance(config, dict) else None
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise DataError(f"{path}: r, the rank, must be a whole number of 1 or more; it is {rank!r}")
    return dict(config)


def _ranks(config: Mapping[str, Any], folder: Path) -> Iterator[int]:
    """Ranks of `rank_pattern`, where modules differ."""
    pattern = config.get("rank_pattern") or {}
    if not isinstance(pattern, dict) or not all(isinstance(rank, int) for rank in pattern.values()):
        raise DataError(f"{folder / CONFIG}: rank_pattern must map names of modules to ranks")
    yield from pattern.values()


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
