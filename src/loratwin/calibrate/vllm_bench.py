"""Results of `vllm bench serve --save-result --save-detailed` as records (vllm/benchmarks/serve.py of 0.32.0).

They hold start, TTFT, gaps and lengths of each request, but neither its adapter nor anything of the server: the former
is known where adapters were assigned round-robin, the latter must be told.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loratwin.errors import DataError, InputError
from loratwin.records import AdapterTable, EngineConfig, Provenance, RequestTable, Run

_NEEDED = ("start_times", "ttfts", "itls", "input_lens", "output_lens", "errors", "duration")


def read_vllm_bench(
    path: str | Path,
    config: EngineConfig,
    engine_version: str = "",
    adapters: Sequence[str] = (),
    ranks: Sequence[int] = (),
) -> Run:
    """The record of a result file.

    Parameters
    ----------
    config
        What the server was started with.
    adapters
        The adapters in the order of `--lora-modules` with `--lora-assignment round-robin`; empty: none were used.
    ranks
        Of each adapter, in turn.

    Raises
    ------
    InputError
        The file cannot be read, or adapters are given without ranks.
    DataError
        It is no such result, or was saved without --save-detailed.
    """
    if bool(adapters) != bool(ranks):
        raise InputError("adapters and their ranks are given together")
    data = _read(Path(path))
    start = np.array(data["start_times"], dtype=np.float64)
    order = np.argsort(start, kind="stable")
    sent = start - start.min()
    ttft = np.array(data["ttfts"], dtype=np.float64)
    e2e = ttft + np.array([float(sum(gaps)) for gaps in data["itls"]])
    failed = np.array([bool(error) for error in data["errors"]])
    who = np.arange(len(start)) % len(adapters) if adapters else np.full(len(start), -1)
    columns = {
        "arrival_s": sent,
        "admitted_s": np.full(len(start), np.nan),
        "first_token_s": np.where(failed, np.nan, sent + ttft),
        "finish_s": np.where(failed, np.nan, sent + e2e),
        "adapter": who.astype(np.int32),
        "prompt_tokens": np.array(data["input_lens"], dtype=np.int32),
        "output_tokens": np.array(data["output_lens"], dtype=np.int32),
        "num_preemptions": np.zeros(len(start), dtype=np.int32),
        "refused": np.zeros(len(start), dtype=np.bool_),
        "sent_s": sent,
        "failure": np.where(failed, 0, -1).astype(np.int32),
    }
    return Run(
        kind="measured",
        window_s=float(data["duration"]),
        requests=RequestTable(**{name: values[order] for name, values in columns.items()}),
        adapters=_adapters(adapters, ranks),
        config=config,
        kv_tokens=None,
        provenance=Provenance(
            created_by="vllm bench serve",
            engine_version=engine_version,
            llm=str(data.get("model_id", "")),
            notes=("imported; the server's configuration is as told, and its steps are not known",),
        ),
        failures=("failed",) if failed.any() else (),
    )


def _adapters(names: Sequence[str], ranks: Sequence[int]) -> AdapterTable:
    rank = np.array([ranks[i % len(ranks)] for i in range(len(names))], dtype=np.int32)
    return AdapterTable(tuple(names), rank, np.full(len(names), np.nan))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    if not isinstance(data, dict) or "duration" not in data:
        raise DataError(f"{path}: not a result of vllm bench serve")
    missing = [name for name in _NEEDED if name not in data]
    if missing:
        raise DataError(f"{path}: {missing[0]} is missing; vllm bench serve writes it with --save-detailed")
    lengths = {name: len(data[name]) for name in _NEEDED[:-1]}
    if len(set(lengths.values())) != 1 or not lengths["ttfts"]:
        raise DataError(f"{path}: columns of different or no length ({lengths})")
    return data
