"""Where a sweep comes from: a table, records, or the twin; and the sizes of its LLM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loratwin.advise.sweep import BatchSweep, read_sweeps, sweep_of_runs, sweep_twin
from loratwin.bench import load_requests
from loratwin.errors import InputError, LoratwinError, UnknownNameError
from loratwin.llms import LlmShapes, find_llm
from loratwin.perf import load_profile
from loratwin.records import load_run


def find_sweep(
    sources: Sequence[str | Path] = (),
    llm: str | None = None,
    *,
    workload: str | None = None,
    profile: str | None = None,
    batches: Sequence[int] = (),
    max_loras: int | None = None,
) -> BatchSweep:
    """A sweep from a table of measured runs, from records, or simulated.

    Parameters
    ----------
    sources
        One table (.csv), or records that differ in `max_num_seqs`; none with `profile`.
    llm
        Which one of the table.
    workload, profile
        Sweep the twin: names or files.
    batches, max_loras
        What the twin is asked for.

    Returns
    -------
    BatchSweep
        Points by rising batch.

    Raises
    ------
    InputError, DataError
        None of these, or two; or as those that read them.
    """
    if profile is not None:
        if workload is None or sources:
            raise InputError("--profile sweeps the twin: it needs --workload, and no table")
        return sweep_twin(load_requests(workload), load_profile(profile), batches, max_loras)
    if not sources:
        raise InputError("no sweep: give a table (.csv), records, or --profile with --workload")
    paths = [Path(source) for source in sources]
    if paths[0].suffix == ".csv":
        return _of_table(paths[0], llm)
    return sweep_of_runs({path.stem: load_run(path) for path in paths})


def _of_table(path: Path, llm: str | None) -> BatchSweep:
    sweeps = {sweep.llm: sweep for sweep in read_sweeps(path)}
    if llm is None and len(sweeps) > 1:
        raise InputError(f"{path} has several LLMs: choose one with --llm ({', '.join(sweeps)})")
    if llm is not None and llm not in sweeps:
        raise UnknownNameError("LLM of the table", llm, list(sweeps))
    return sweeps[llm] if llm is not None else next(iter(sweeps.values()))


def known_shapes(name: str) -> LlmShapes | None:
    """Sizes of an LLM; None: not known."""
    try:
        return find_llm(name)
    except LoratwinError:
        return None
