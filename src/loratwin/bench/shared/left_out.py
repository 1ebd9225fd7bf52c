"""Fields that a server refused, and that are not sent: told by the load client to whoever makes the record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from loratwin.records import write_atomically

_FILE = "left-out.json"

_COSTS = {
    "token_ids": "token ids as prompts: texts of about the lengths asked for are sent, and the server's counts count",
    "stream_options": "stream_options: tokens are counted by events with text, unless the server counts them anyway",
    "continuous_usage": "continuous_usage_stats: tokens that come without text are seen late",
    "ignore_eos": "ignore_eos: min_tokens keeps the lengths in its place",
    "min_tokens": "min_tokens: output lengths are not controlled, and what came counts",
    "temperature": "temperature: the server samples as it likes",
}


def save_left_out(folder: Path, names: Sequence[str]) -> None:
    """Write them down in the journal's folder."""
    write_atomically(folder / _FILE, json.dumps(list(names)))


def load_left_out(folder: Path) -> tuple[str, ...]:
    """Read them; empty: nothing was left out."""
    try:
        return tuple(json.loads((folder / _FILE).read_text()))
    except (OSError, ValueError):
        return ()


def what_it_costs(names: Sequence[str]) -> list[str]:
    """A line for each: what was left out, and what is not known or kept because of it."""
    costs = {**_COSTS, "ignore_eos": "ignore_eos"} if "min_tokens" in names else _COSTS
    return [f"the server refuses {costs[name]}" for name in names]
