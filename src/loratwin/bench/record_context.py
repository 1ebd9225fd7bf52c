"""What a record says beside what is measured: kept in the folder of a benchmark, so that it can be made later."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loratwin.errors import DataError
from loratwin.records import AdapterTable, EngineConfig, Provenance, Samples, as_tuple, write_atomically

_FILE = "surroundings.json"


@dataclass(frozen=True)
class RecordContext:
    """What a run's record says beside what the load client measured."""

    adapters: AdapterTable
    config: EngineConfig
    kv_tokens: int | None
    provenance: Provenance
    samples: tuple[Samples, ...] = ()


def save_context(folder: Path, context: RecordContext) -> None:
    """Write down what the record will say beside what is measured; samples have journals of their own."""
    plain = {
        "adapters": [list(context.adapters.name), context.adapters.rank.tolist(), _rates(context.adapters)],
        "config": context.config.model_dump(),
        "kv_tokens": context.kv_tokens,
        "provenance": context.provenance.as_plain(),
    }
    write_atomically(folder / _FILE, json.dumps(plain))


def load_context(folder: Path) -> RecordContext:
    """Read it.

    Raises
    ------
    DataError
        There is none, or it is damaged.
    """
    try:
        plain = json.loads((folder / _FILE).read_text())
        names, ranks, rates = plain["adapters"]
        adapters = AdapterTable(tuple(names), np.array(ranks, dtype=np.int32), np.array(rates, dtype=np.float64))
        provenance: dict[str, Any] = {name: as_tuple(value) for name, value in plain["provenance"].items()}
        config = EngineConfig(**plain["config"])
        return RecordContext(adapters, config, plain["kv_tokens"], Provenance(**provenance))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: no unfinished benchmark, or damaged: {error}") from None


def _rates(adapters: AdapterTable) -> list[float | None]:
    return [None if rate != rate else rate for rate in adapters.rate_per_s.tolist()]
