"""The twin of a measured run: the very requests that were sent, simulated on a server of the same configuration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from loratwin.errors import InputError
from loratwin.metrics import failed
from loratwin.perf import Profile
from loratwin.records import Run
from loratwin.records.columns import IntArray
from loratwin.simulate import simulate
from loratwin.simulate.engine import with_notes
from loratwin.workload import Adapters, Workload

OWN_GROUP = 0
"""A run does not say which group of a workload an adapter belongs to."""


def twin_of(run: Run, profile: Profile) -> Run:
    """Simulate what the measured server was given.

    Parameters
    ----------
    run
        Its configuration is the simulated server's; where it does not know the size of its KV cache, the profile
        predicts it.

    Raises
    ------
    InputError
        Several servers answered, or an adapter's rank or a prompt does not fit the configuration.
    CapacityError
        The server as configured would not start.
    """
    replica = run.requests.replica
    if replica is not None and len(np.unique(replica)) > 1:
        raise InputError(f"{len(np.unique(replica))} servers answered: the twin simulates one")
    workload = workload_of(run)
    twin = simulate(workload, profile, run.config, run.kv_tokens)
    twin = replace(twin, provenance=replace(twin.provenance, workload_hash=run.provenance.workload_hash, seed=None))
    return with_notes(twin, *_remarks(run, profile, workload))


def workload_of(run: Run) -> Workload:
    """The requests that the server was given: they arrive when they were sent, and are as long as they were.

    An unfinished request is as long as was asked for. One that failed counts with what it brought; without any token
    it is left out: nobody knows whether the server ever computed it.
    """
    table = run.requests
    start_s = table.arrival_s if table.sent_s is None else table.sent_s
    lost = failed(run)
    received = table.received_tokens if table.received_tokens is not None else np.zeros(len(table), dtype=np.int32)
    given = (start_s < run.window_s) & ~table.refused & (~lost | (received > 0))  # False where never sent
    rows = np.flatnonzero(given)
    rows = rows[np.lexsort((table.adapter[rows], start_s[rows]))]
    output = np.where(lost, received, table.output_tokens)
    return Workload(
        arrival_s=np.maximum(start_s[rows], 0.0),
        adapter=table.adapter[rows],
        prompt_tokens=np.maximum(table.prompt_tokens[rows], 1).astype(np.int32),
        output_tokens=np.maximum(output[rows], 1).astype(np.int32),
        adapters=_adapters(run),
        window_s=run.window_s,
        seed=run.provenance.seed or 0,
    )


def _adapters(run: Run) -> Adapters:
    """An unknown rank (below 1) is taken for the largest that fits."""
    rank: IntArray = np.where(run.adapters.rank < 1, run.config.max_lora_rank, run.adapters.rank).astype(np.int32)
    group = np.full(len(run.adapters), OWN_GROUP, dtype=np.int32)
    return Adapters(run.adapters.name, rank, run.adapters.rate_per_s.copy(), group)


def _remarks(run: Run, profile: Profile, workload: Workload) -> tuple[str, ...]:
    left_out = len(run.requests) - workload.num_requests
    engine = run.provenance.engine_version
    remarks = {
        f"{left_out:,} requests that failed, were refused or never sent are not simulated": left_out > 0,
        f"the profile is of {profile.engine}, the server was {engine}": engine not in ("", profile.engine),
        "the KV cache is as large as the profile predicts: the run does not say": run.kv_tokens is None,
    }
    return tuple(remark for remark, applies in remarks.items() if applies)
