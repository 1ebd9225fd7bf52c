"""The ranks of adapters in a folder, as PEFT writes them: a folder for each, with `adapter_config.json` in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loratwin.errors import InputError

_CONFIG = "adapter_config.json"


def ranks_in(folder: str | Path) -> dict[str, int]:
    """Rank of each adapter by the name of its folder: the highest where layers have different ones (`rank_pattern`).

    Raises
    ------
    InputError
        There is no such folder, no adapter in it, or a config that tells no rank.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"{folder}: no such folder")
    configs = sorted(place.glob(f"*/{_CONFIG}"))
    if not configs:
        raise InputError(f"{folder}: has no adapters (folders with {_CONFIG})")
    return {config.parent.name: _rank(config) for config in configs}


def _rank(config: Path) -> int:
    try:
        said: Any = json.loads(config.read_text(encoding="utf-8"))
        return max(int(said["r"]), *map(int, (said.get("rank_pattern") or {}).values()), 1)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{config}: tells no rank ({error!r})") from None


def rank_of(name: str, ranks: dict[str, int]) -> int | None:
    """Rank of an adapter, by its name or, of a name as `org/adapter`, by its last part; None: it is not there."""
    return ranks.get(name, ranks.get(name.rstrip("/").rpartition("/")[2]))
