"""The workload of a recorded run: the same requests once more, to a server or to the twin."""

from __future__ import annotations

import numpy as np

from loratwin.records import Run
from loratwin.workload.arrays import Adapters, Workload, arrival_order


def recorded_workload(run: Run) -> Workload:
    """The requests of a run, when they were meant to be sent (else: when they arrived), as long as was asked for."""
    table = run.requests
    arrival = table.arrival_s if table.scheduled_s is None else table.scheduled_s
    inside = np.flatnonzero((arrival >= 0) & (arrival < run.window_s))
    order = inside[np.argsort(arrival[inside], kind="stable")]
    order = order[arrival_order(arrival[order], table.adapter[order])]
    asked = table.output_tokens if table.asked_tokens is None else table.asked_tokens
    adapters = Adapters(
        run.adapters.name,
        run.adapters.rank,
        np.nan_to_num(run.adapters.rate_per_s),
        np.zeros(len(run.adapters), dtype=np.int32),
    )
    base = float((table.adapter[order] < 0).sum()) / run.window_s
    return Workload(
        arrival_s=arrival[order],
        adapter=table.adapter[order],
        prompt_tokens=table.prompt_tokens[order],
        output_tokens=asked[order],
        adapters=adapters,
        window_s=run.window_s,
        seed=run.provenance.seed or 0,
        base_rate_per_s=base,
    )
