"""Whether a server takes the adapters of a folder: what vLLM refuses, ranks above its slots', those of another LLM."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from loratwin.errors import DataError, InputError
from loratwin.llms import LlmShapes, find_llm
from loratwin.llms.lora import adapter_modules
from loratwin.records.config import LORA_RANKS
from loratwin.workload.adapter_folder import adapter_folders, largest_rank, read_config


def refused_adapter(config: Mapping[str, Any], max_rank: int | None = None) -> Iterator[str]:
    """Why vLLM does not serve an adapter (`lora/peft_helper.py`: `validate_legal`, `_validate_features`).

    Parameters
    ----------
    max_rank
        Of the server's slots; None: the largest there is.
    """
    rank = largest_rank(config)
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
    elif max_rank is not None and rank > max_rank:
        yield f"rank {rank} is above the server's --max-lora-rank {max_rank}"


def check_folder(
    folder: str | Path, llm: LlmShapes | None, max_rank: int | None = None, names: Collection[str] | None = None
) -> tuple[str, ...]:
    """Refuse a folder with adapters that the server would not take, before there is one.

    Parameters
    ----------
    folder
        Of adapters, as PEFT writes them.
    llm
        The server's; None: not known, and not compared.
    max_rank
        Of the server's slots; None: as adapters need it.
    names
        Of the adapters that count, by folder; None: all.

    Returns
    -------
    tuple of str
        What could not be compared, or differs and can be lived with.

    Raises
    ------
    InputError
        An adapter is refused; all its reasons are said, and how many others are.
    DataError
        A config is damaged.
    """
    remarks: dict[str, None] = {}
    refused: list[str] = []
    for path in adapter_folders(Path(folder)):
        if names is not None and path.name not in names:
            continue
        config = read_config(path)
        reasons = [*refused_adapter(config, max_rank)]
        if llm is not None:
            other, said = _base(str(config.get("base_model_name_or_path") or ""), llm)
            reasons += [other] if other else []
            remarks |= dict.fromkeys(f"{folder}: {remark}" for remark in (*said, *_modules(config, llm, path)))
        if reasons:
            refused.append(f"{path}: the server would not take this adapter: {'; '.join(reasons)}")
    if refused:
        more = f" (and {len(refused) - 1} more adapters)" if len(refused) > 1 else ""
        raise InputError(refused[0] + more)
    return tuple(remarks)


@lru_cache(maxsize=256)
def _base(base: str, llm: LlmShapes) -> tuple[str, tuple[str, ...]]:
    """Why an adapter of this base is none of the LLM, and remarks where it cannot be said or is a near one."""
    if not base:
        return "", ("adapters do not say of which LLM they are (base_model_name_or_path)",)
    try:
        known = find_llm(base)
    except InputError:
        return "", (f"of {base}, which is no LLM that is known by name; taken to be {llm.name}",)
    if _sizes(known) != _sizes(llm):
        return f"it is of {base} (base_model_name_or_path), the server of {llm.repository or llm.name}", ()
    same = known.name == llm.name or base in (llm.repository, llm.given)
    return "", () if same else (f"adapters are of {base}, which has the shapes of {llm.name}",)


def _sizes(llm: LlmShapes) -> tuple[int, ...]:
    """What tells one LLM from another whose adapters would fit; how its weights are kept does not count."""
    return (
        llm.hidden_size, llm.intermediate_size, llm.num_layers, llm.num_heads, llm.num_kv_heads, llm.head_dim,
        llm.vocab_size,
    )  # fmt: skip


def _modules(config: Mapping[str, Any], llm: LlmShapes, path: Path) -> list[str]:
    """What is to be said of `target_modules`: names, `all-linear`, or a pattern for whole names (PEFT's rule)."""
    asked = config.get("target_modules")
    if asked is None or asked == "all-linear":
        return []
    known = adapter_modules(llm)
    if isinstance(asked, str) and asked not in known:
        return [] if _matches(asked, known, path) else [f"target_modules {asked!r} matches no module of {llm.name}"]
    named = {str(name).rpartition(".")[2] for name in ([asked] if isinstance(asked, str) else asked)}
    return [
        f"target_modules has {module}, which {llm.name} is not known to have; vLLM refuses modules that it has not"
        for module in sorted(named - known.keys())
    ]


def _matches(pattern: str, known: Mapping[str, str], path: Path) -> bool:
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise DataError(f"{path}: target_modules {pattern!r} is no pattern: {error}") from None
    return any(wanted.fullmatch(f"model.layers.0.{part}.{name}") for name, part in known.items())
