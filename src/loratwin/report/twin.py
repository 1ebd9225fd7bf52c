"""The twin of a measured run: the very requests that were sent, simulated on a server of the same configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.config import changed_config
from loratwin.engines.registry import engine_of
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
    try:
        twin = simulate(workload, profile, run.config, run.kv_tokens)
    except InputError as error:
        raise InputError(f"{error}{_missing(run)}") from None
    twin = replace(twin, provenance=replace(twin.provenance, workload_hash=run.provenance.workload_hash, seed=None))
    return twin.with_notes(_remarks(run, profile, workload))


def _remarks(run: Run, profile: Profile, workload: Workload) -> tuple[str, ...]:
    left_out = len(run.requests) - workload.num_requests
    engine = run.provenance.engine_version
    remarks = {
        f"the server did not tell its limits; assumed: {_assumed(run)}": bool(_assumed(run)),
        f"{left_out:,} requests that failed, were refused or never sent are not simulated": left_out > 0,
        f"the profile is of {profile.engine}, the server was {engine}": engine not in ("", profile.engine),
        "the KV cache is as large as the profile predicts: the run does not say": run.kv_tokens is None,
    }
    return tuple(remark for remark, applies in remarks.items() if applies)


def _assumed(run: Run) -> str:
    """What nobody told of its server, with the values in its place."""
    return ", ".join(f"{name} = {getattr(run.config, name)}" for name in run.provenance.assumed)


def _missing(run: Run) -> str:
    """What would be right where the configuration is not the server's own."""
    if run.provenance.server_args:
        return ""
    assumed = _assumed(run) or "what it does not say"
    return f"; the record is of a server that did not tell its limits ({assumed}): --server-args or --serve says them"


def with_arguments(runs: Mapping[str, Run], arguments: str | Sequence[str]) -> dict[str, Run]:
    """The measured runs with what their servers ran with, by the user; all else of the configuration stays.

    Parameters
    ----------
    runs
        By name; those that are simulated stay as they are.
    arguments
        The engine's, all of them or some.

    Raises
    ------
    InputError
        They are such as the engine refuses, or do not fit the rest.
    """
    return {name: _with_arguments(run, arguments) if run.kind == "measured" else run for name, run in runs.items()}


def _with_arguments(run: Run, arguments: str | Sequence[str]) -> Run:
    given = ServerArguments(engine_of(run.provenance.engine_version), arguments)
    config = changed_config(run.config, given)
    left = tuple(name for name in run.provenance.assumed if name not in given)
    note = f"the server ran with {' '.join(given.shown)}, as told afterwards"
    provenance = replace(run.provenance, assumed=left, notes=(*run.provenance.notes, note))
    return replace(run, config=config, provenance=provenance)


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
