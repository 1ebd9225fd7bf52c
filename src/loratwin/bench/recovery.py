"""What is in the folder of an unfinished benchmark, beside the journal, so that its record can be made later."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from loratwin.bench.result import Surroundings
from loratwin.errors import DataError
from loratwin.records import AdapterTable, EngineConfig, Provenance, as_tuple, write_atomically

_FILE = "surroundings.json"


def save_surroundings(folder: Path, around: Surroundings) -> None:
    """Write down what the record will say beside what is measured; samples have journals of their own."""
    plain = {
        "adapters": [list(around.adapters.name), around.adapters.rank.tolist(), _rates(around.adapters)],
        "config": around.config.model_dump(),
        "kv_tokens": around.kv_tokens,
        "provenance": asdict(around.provenance),
    }
    write_atomically(folder / _FILE, json.dumps(plain))


def load_surroundings(folder: Path) -> Surroundings:
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
        return Surroundings(adapters, config, plain["kv_tokens"], Provenance(**provenance))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: no unfinished benchmark, or damaged: {error}") from None


def _rates(adapters: AdapterTable) -> list[float | None]:
    return [None if rate != rate else rate for rate in adapters.rate_per_s.tolist()]
