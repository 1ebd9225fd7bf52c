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
from numpy.typing import NDArray

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.config import engine_config
from loratwin.engines.versions import engine_version as version_of
from loratwin.engines.vllm import VLLM
from loratwin.errors import DataError, InputError
from loratwin.records import AdapterTable, EngineConfig, Provenance, RequestTable, Run

F8 = NDArray[np.float64]

_MOST_TOKENS = 2**31 - 1
_NEEDED = ("start_times", "ttfts", "itls", "input_lens", "output_lens", "errors", "duration")


def read_vllm_bench(
    path: str | Path,
    server_args: Sequence[str] | str | ServerArguments,
    engine_version: str = "",
    adapters: Sequence[str] = (),
    ranks: Sequence[int] = (),
) -> Run:
    """The record of a result file; what `loratwin calibrate import` does.

    Parameters
    ----------
    path
        File of `vllm bench serve --save-result --save-detailed`.
    server_args
        vLLM's arguments, in a list or in one string: the file does not tell them. Kept without secrets.
    engine_version
        As "vllm-0.32.0"; "" where it is not known.
    adapters
        The adapters in the order of `--lora-modules` with `--lora-assignment round-robin`; empty: none were used.
    ranks
        Of each adapter, in turn.

    Raises
    ------
    InputError
        The file cannot be read, there is no such version, or adapters are not those of such a server.
    DataError
        It is no such result, or was saved without --save-detailed.
    """
    given = ServerArguments.of(VLLM, server_args)
    config = engine_config(given)
    _check_adapters(adapters, ranks, config)
    if engine_version:
        version_of(engine_version)
    data = _read(Path(path))
    start, ttft, e2e, lengths = _columns(data, Path(path))
    order = np.argsort(start, kind="stable")
    sent = start - start.min()
    failed = np.array([bool(error) for error in data["errors"]])
    who = np.arange(len(start)) % len(adapters) if adapters else np.full(len(start), -1)
    columns = {
        "arrival_s": sent,
        "admitted_s": np.full(len(start), np.nan),
        "first_token_s": np.where(failed, np.nan, sent + ttft),
        "finish_s": np.where(failed, np.nan, sent + e2e),
        "adapter": who.astype(np.int32),
        "prompt_tokens": lengths[0].astype(np.int32),
        "output_tokens": lengths[1].astype(np.int32),
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
            server_args=given.shown,
            notes=("imported; the server's configuration is as told, and its steps are not known",),
        ),
        failures=("failed",) if failed.any() else (),
    )


def _check_adapters(names: Sequence[str], ranks: Sequence[int], config: EngineConfig) -> None:
    if bool(names) != bool(ranks):
        raise InputError("adapters and their ranks are given together")
    if names and not config.max_loras:
        raise InputError("adapters are given, but the server's arguments lack --enable-lora")
    if len(set(names)) < len(names):
        raise InputError(f"adapters {','.join(names)}: each is named once")
    if wrong := [rank for rank in ranks if not 1 <= rank <= config.max_lora_rank]:
        raise InputError(f"rank {wrong[0]}: must be from 1 to the server's max_lora_rank = {config.max_lora_rank}")


def _columns(data: dict[str, Any], path: Path) -> tuple[F8, F8, F8, tuple[F8, F8]]:
    """Start, TTFT, end to end (n,), s, and the lengths of prompts and outputs (n,).

    Raises
    ------
    DataError
        One is no list of such numbers.
    """
    try:
        start, ttft, prompt, output = (
            np.array(data[name], dtype=np.float64) for name in ("start_times", "ttfts", "input_lens", "output_lens")
        )
        gaps = [np.array(request, dtype=np.float64) for request in data["itls"]]
        e2e = ttft + np.array([float(request.sum()) for request in gaps])
        duration = float(data["duration"])
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: not a result of vllm bench serve ({error})") from None
    if not (np.isfinite(start).all() and 0 < duration < np.inf):
        raise DataError(f"{path}: start_times must be finite, and duration ({duration:g}) above 0")
    odd = any(request.ndim != 1 or (request < 0).any() for request in gaps)
    if odd or not (np.isfinite(e2e) & (ttft >= 0)).all():
        raise DataError(f"{path}: ttfts and itls must be seconds, 0 or more")
    if any(((tokens < 0) | (tokens > _MOST_TOKENS) | (tokens % 1 != 0)).any() for tokens in (prompt, output)):
        raise DataError(f"{path}: input_lens and output_lens must be whole numbers of tokens")
    return start, ttft, e2e, (prompt, output)


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
    odd = [name for name in _NEEDED[:-1] if name in data and not isinstance(data[name], list)]
    if missing:
        raise DataError(f"{path}: {missing[0]} is missing; vllm bench serve writes it with --save-detailed")
    if odd:
        raise DataError(f"{path}: {odd[0]} must be a list, one entry for each request")
    lengths = {name: len(data[name]) for name in _NEEDED[:-1]}
    if len(set(lengths.values())) != 1 or not lengths["ttfts"]:
        raise DataError(f"{path}: columns of different or no length ({lengths})")
    return data
