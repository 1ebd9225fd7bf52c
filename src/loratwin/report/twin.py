"""The twin of a measured run: the very requests that were sent, simulated on a server of the same configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from loratwin.errors import InputError
from loratwin.perf import Profile
from loratwin.records import Run
from loratwin.simulate import simulate
from loratwin.workload import Workload, served_workload


def twin_of(run: Run, profile: Profile) -> Run:
    """Simulate what the measured server was given.

    Parameters
    ----------
    run
        Its configuration is the simulated server's; where it does not know the size of its KV cache, the profile
        predicts it.
    profile
        To simulate with.

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
    workload = served_workload(run)
    twin = simulate(workload, profile, run.config, run.kv_tokens)
    twin = replace(twin, provenance=replace(twin.provenance, workload_hash=run.provenance.workload_hash, seed=None))
    return twin.with_notes(_remarks(run, profile, workload))


def _remarks(run: Run, profile: Profile, workload: Workload) -> tuple[str, ...]:
    left_out = len(run.requests) - workload.num_requests
    engine = run.provenance.engine_version
    remarks = {
        f"{left_out:,} requests that failed, were refused or never sent are not simulated": left_out > 0,
        f"the profile is of {profile.engine}, the server was {engine}": engine not in ("", profile.engine),
        "the KV cache is as large as the profile predicts: the run does not say": run.kv_tokens is None,
    }
    return tuple(remark for remark, applies in remarks.items() if applies)


def twins_of(runs: Mapping[str, Run], profile: Profile) -> dict[str, Run]:
    """The twin of each measured run, named after it.

    Parameters
    ----------
    runs
        By name; those that are simulated are passed over.
    profile
        To simulate with.

    Raises
    ------
    InputError
        None is measured, or the twin cannot simulate one of them.
    """
    measured = {name: run for name, run in runs.items() if run.kind == "measured"}
    if not measured:
        raise InputError("--profile: none of the runs is measured, so there is nothing to simulate beside them")
    return {f"{name} by the twin": twin_of(run, profile) for name, run in measured.items()}
