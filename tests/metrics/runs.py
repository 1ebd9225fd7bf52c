"""Small runs to compute by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from loratwin.records import AdapterTable, EngineConfig, RequestTable, Run, RunKind, StepSeries

NEVER = float("nan")


def make_run(
    arrival: list[float],
    first: list[float] | None = None,
    finish: list[float] | None = None,
    *,
    window_s: float = 10.0,
    admitted: list[float] | None = None,
    adapter: list[int] | None = None,
    prompt: list[int] | None = None,
    output: list[int] | None = None,
    num_preemptions: list[int] | None = None,
    refused: list[bool] | None = None,
    num_adapters: int = 2,
    kv_tokens: int = 160,
    sent: list[float] | None = None,
    scheduled: list[float] | None = None,
    asked: list[int] | None = None,
    received: list[int] | None = None,
    failure: list[int] | None = None,
    kind: RunKind = "simulated",
    **parts: Any,
) -> Run:
    """A run from plain lists; what is not given never happened, or is 10 prompt and 2 output tokens."""
    n = len(arrival)
    never = [NEVER] * n
    requests = RequestTable(
        arrival_s=np.array(arrival),
        admitted_s=np.array(never if admitted is None else admitted),
        first_token_s=np.array(never if first is None else first),
        finish_s=np.array(never if finish is None else finish),
        adapter=np.array([0] * n if adapter is None else adapter, dtype=np.int32),
        prompt_tokens=np.array([10] * n if prompt is None else prompt, dtype=np.int32),
        output_tokens=np.array([2] * n if output is None else output, dtype=np.int32),
        num_preemptions=np.array([0] * n if num_preemptions is None else num_preemptions, dtype=np.int32),
        refused=np.array([False] * n if refused is None else refused, dtype=bool),
        sent_s=None if sent is None else np.array(sent),
        scheduled_s=None if scheduled is None else np.array(scheduled),
        asked_tokens=None if asked is None else np.array(asked, dtype=np.int32),
        received_tokens=None if received is None else np.array(received, dtype=np.int32),
        failure=None if failure is None else np.array(failure, dtype=np.int32),
    )
    adapters = AdapterTable(
        name=tuple(f"a{i}" for i in range(num_adapters)),
        rank=np.full(num_adapters, 8, dtype=np.int32),
        rate_per_s=np.full(num_adapters, 0.1),
    )
    return Run(kind, window_s, requests, adapters, EngineConfig(max_loras=1), kv_tokens, **parts)


def make_steps(start: list[float], duration: list[float], **columns: list[int]) -> StepSeries:
    """A step series from plain lists; columns not given are 0."""
    names = [name for name in StepSeries.column_types() if name not in ("start_s", "duration_s")]
    counts: dict[str, Any] = {name: np.array(columns.get(name, [0] * len(start)), dtype=np.int32) for name in names}
    return StepSeries(start_s=np.array(start), duration_s=np.array(duration), **counts)
