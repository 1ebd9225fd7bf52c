"""The ranks of adapters in a folder, as PEFT writes them: a folder for each, with `adapter_config.json` in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loratwin.errors import DataError, InputError

CONFIG = "adapter_config.json"


def adapter_folders(folder: Path) -> list[Path]:
    """Folders of adapters: the folder itself, or those in it, by name; none: it holds no adapters."""
    if (folder / CONFIG).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))


def read_config(folder: Path) -> dict[str, Any]:
    """The config of one adapter, whose ranks are whole numbers.

    Raises
    ------
    DataError
        It is damaged.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    rank = config.get("r") if isinstance(config, dict) else None
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise DataError(f"{path}: r, the rank, must be a whole number of 1 or more; it is {rank!r}")
    pattern = config.get("rank_pattern") or {}
    if not isinstance(pattern, dict) or not all(isinstance(rank, int) for rank in pattern.values()):
        raise DataError(f"{path}: rank_pattern must map names of modules to ranks")
    return dict(config)


def largest_rank(config: Mapping[str, Any]) -> int:
    """What an adapter needs of a slot: its rank, or a higher one of single modules (`rank_pattern`)."""
    return int(max((config["r"], *(config.get("rank_pattern") or {}).values())))


def ranks_in(folder: str | Path) -> dict[str, int]:
    """Rank of each adapter by the name of its folder, as `largest_rank`.

    Raises
    ------
    InputError
        There is no such folder, or no adapter in it.
    DataError
        A config is damaged.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"{folder}: no such folder")
    folders = adapter_folders(place)
    if not folders:
        raise InputError(f"{folder}: has no adapters (folders with {CONFIG})")
    return {adapter.name: largest_rank(read_config(adapter)) for adapter in folders}


def rank_of(name: str, ranks: Mapping[str, int]) -> int | None:
    """Rank of an adapter, by its name or, of a name as `org/adapter`, by its last part; None: it is not there."""
    return ranks.get(name, ranks.get(own_name(name)))


def own_name(name: str) -> str:
    """Of a name as `org/adapter` its last part, which is that of the folder."""
    return name.rstrip("/").rpartition("/")[2]


def stand_ins(wanted: Sequence[str], there: Sequence[str]) -> tuple[str, ...] | None:
    """The adapter for each wanted one: of equal names, else those there in their natural order; None: too few."""
    known = set(there)
    equal = tuple(name if name in known else own_name(name) for name in wanted)
    if known.issuperset(equal) and len(set(equal)) == len(equal):
        return equal
    return tuple(sorted(there, key=natural)[: len(wanted)]) if len(there) >= len(wanted) else None


def natural(name: str) -> list[tuple[int, int, str]]:
    """Orders a2 before a10."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]
