"""A batch that was run in phases, as a record: its requests, its engine steps, and what the server was."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.as_started import own_variables
from loratwin.engines.config import engine_config
from loratwin.engines.facts import ServerFacts
from loratwin.engines.registry import DEFAULT
from loratwin.offline.batches import Batch
from loratwin.probe import read_steps
from loratwin.records import AdapterTable, Provenance, RequestTable, Run
from loratwin.synthetic import MadeAdapter
from loratwin.version import __version__


def offline_run(
    server: dict[str, Any],
    told: dict[str, Any],
    batch: Batch,
    log: Path,
    arguments: ServerArguments,
    made: Sequence[MadeAdapter],
    notes: Sequence[str] = (),
) -> Run:
    """The record of one batch.

    Parameters
    ----------
    server
        What the program inside vLLM's Python told of the engine.
    told
        What it told of the batch: times on this machine's monotonic clock.
    log
        Folder of the step log.
    """
    start = float(told["start_s"])
    facts = ServerFacts(
        engine=DEFAULT,
        version=str(server["version"]).split("+")[0],
        block_size=server["block_size"],
        kv_tokens=server["kv_blocks"] * server["block_size"],
        max_model_len=server["max_model_len"],
        max_num_seqs=server["max_num_seqs"],
        max_num_batched_tokens=server["max_num_batched_tokens"],
        max_loras=server["max_loras"],
    )
    names = [adapter.name for adapter in made] if server["max_loras"] else []
    unknown = np.full(len(names), np.nan)
    return Run(
        kind="measured",
        window_s=float(told["end_s"]) - start,
        requests=_requests(told, batch, names, start),
        adapters=AdapterTable(tuple(names), np.array([a.rank for a in made[: len(names)]], np.int32), unknown),
        config=engine_config(arguments, facts),
        kv_tokens=facts.kv_tokens,
        provenance=Provenance(
            created_by="loratwin offline",
            loratwin_version=__version__,
            engine_version=facts.engine_version,
            llm=arguments.model,
            gpu=server["gpu"],
            server_args=tuple(arguments.shown),
            server_env=own_variables(os.environ, arguments.engine.variables),
            notes=("in phases: all prompts, then all decode; no client, no HTTP", *notes),
        ),
        steps=read_steps(log, start, start, float(told["end_s"])),
    )


def _requests(told: dict[str, Any], batch: Batch, names: Sequence[str], start: float) -> RequestTable:
    count = batch.requests
    whole = np.ones(count, np.int32)
    return RequestTable(
        arrival_s=np.zeros(count),
        admitted_s=np.full(count, np.nan),
        first_token_s=np.array(told["first_s"]) - start,
        finish_s=np.array(told["finish_s"]) - start,
        adapter=np.array([names.index(name) if name else -1 for name in told["adapters"]], np.int32),
        prompt_tokens=batch.prompt_tokens * whole,
        output_tokens=batch.output_tokens * whole,
        num_preemptions=0 * whole,
        refused=np.zeros(count, np.bool_),
        asked_tokens=batch.output_tokens * whole,
        received_tokens=batch.output_tokens * whole,
    )
