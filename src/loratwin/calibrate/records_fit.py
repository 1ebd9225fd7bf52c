"""A profile from records of runs: of those whose engine steps were logged, of clients' figures, or of both.

Evidence becomes rows, rows become coefficients, coefficients a profile (`rows`, `regression`, `profile`). Logged steps
are rows as they are; runs without them become rows at the twin's operating point: beside logged steps as further rows
of the same regression, by themselves as rows of a regression around a start profile, which then also says what no
client can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from loratwin.calibrate.evidence import Evidence, gather
from loratwin.calibrate.profile import around, measured_profile, profile_around
from loratwin.calibrate.regression.client_figures import client_overheads, fit_clients
from loratwin.calibrate.regression.drift import Drift, measured_drift, with_repetitions
from loratwin.calibrate.regression.overhead import UNKNOWN, FittedValue, LoadTimes, fit_loads, overhead_of, with_clients
from loratwin.calibrate.regression.step_log import LEAST_ROWS, StepFit, fit_steps, of_one_law
from loratwin.calibrate.rows.client_figures import beside_logged, client_rows
from loratwin.calibrate.rows.operating_point import operating_points
from loratwin.calibrate.rows.step_log import StepRows, step_rows, tail_errors
from loratwin.calibrate.start import start_for
from loratwin.engines.versions import UNTOLD
from loratwin.errors import DataError
from loratwin.llms import LlmShapes, find_llm
from loratwin.perf import Profile
from loratwin.records import Run

PASSES = 2
"""Operating points are looked for with the start, then with what came of it; logged steps are start enough."""


@dataclass(frozen=True)
class RecordsFit:
    """A profile and how it came about.

    Parameters
    ----------
    profile
        With its card and uncertainty.
    steps
        The fit of the step time.
    loads, overhead
        What the records told of them; without logged steps loads are unknown.
    drift
        How the machine's speed changed under the runs whose steps were logged.
    """

    profile: Profile
    steps: StepFit
    loads: LoadTimes
    overhead: FittedValue
    drift: Drift = field(default_factory=Drift)


def fit_records(
    records: Evidence | Mapping[str, Run], llm: LlmShapes | str, draws: int = 60, start: Profile | None = None
) -> RecordsFit:
    """Fit a profile to records of runs: everything that they tell.

    Parameters
    ----------
    records
        By name, as `read_records` reads a folder of them; or what of them counts, as `gather` says.
    llm
        What the servers served: shapes, or what `find_llm` finds them by.
    draws
        Of the bootstrap that gives the coefficients' errors; 0: none.
    start
        For runs without logged steps, where no others are there; None: an assumed one, if the GPU is known.

    Returns
    -------
    RecordsFit
        The profile, and what it was made of; `dump_profile` and `save_profile` write it.

    Raises
    ------
    DataError
        No record is evidence, there are too few steps, none of a server with adapters, no server that tells its KV
        cache, or no profile to start from.
    InputError
        The LLM or the engine's version is not known.
    """
    evidence = records if isinstance(records, Evidence) else gather(records)
    if isinstance(llm, str):
        llm = find_llm(llm, evidence.server.engine_version or UNTOLD)
    if evidence.logged:
        graphs = evidence.server.graph_tokens
        rows = step_rows(evidence.logged, evidence.engine.behaviour, graphs)
        rows, law = of_one_law(rows, evidence.without_adapters, graphs)
        if not evidence.unlogged:
            return _from_logs(evidence, llm, draws, rows, law)
        if len(rows) >= LEAST_ROWS:
            return _from_both(evidence, llm, draws, rows, law)
    # What is logged, if anything, is too little to stand alone: its clients' figures count with the others'.
    return _from_clients(evidence, draws, start_for(evidence.server, llm, start))


def _from_logs(evidence: Evidence, llm: LlmShapes, draws: int, rows: StepRows, law: str) -> RecordsFit:
    """From logged steps alone.

    Raises
    ------
    DataError
        None is of a server with adapters, so that LoRA would cost nothing.
    """
    if not any(run.config.max_loras for run in evidence.logged.values()):
        raise DataError("no run is of a server with adapters (--enable-lora): it cannot be told what they cost")
    drift = measured_drift(evidence.logged, rows, evidence.engine.behaviour, evidence.server.graph_tokens)
    steps = fit_steps(drift.without(rows), evidence.server.graph_tokens, draws)
    drift = with_repetitions(drift, evidence.logged, rows, steps)
    steps = _with_tails(steps, evidence)
    loads, overhead = fit_loads(evidence.logged.values()), overhead_of(evidence)
    profile = measured_profile(evidence, llm, steps, loads, overhead, drift, law)
    return RecordsFit(profile, steps, loads, overhead, drift)


def _from_both(evidence: Evidence, llm: LlmShapes, draws: int, rows: StepRows, law: str) -> RecordsFit:
    """Logged steps and clients' figures in one regression; the former alone are where operating points start."""
    known = _from_logs(evidence, llm, 0, rows, law)
    left_out = evidence.without_adapters if law else []
    unlogged = {name: run for name, run in evidence.unlogged.items() if name not in left_out}
    matches, unmatched = operating_points(unlogged, known.profile)
    of_clients = client_rows(matches, known.profile, evidence.in_time) if matches else None
    rows = known.drift.without(rows)
    if of_clients is not None:
        rows = beside_logged(rows, of_clients, known.steps.between_runs)
    steps, overhead = fit_steps(rows, evidence.server.graph_tokens, draws), known.overhead
    steps = _with_tails(steps, evidence)
    if of_clients is not None:
        overhead = with_clients(overhead, client_overheads(of_clients, steps.model).values())
    profile = measured_profile(evidence, llm, steps, known.loads, overhead, known.drift, law, unmatched)
    return RecordsFit(profile, steps, known.loads, overhead, known.drift)


def _with_tails(steps: StepFit, evidence: Evidence) -> StepFit:
    graphs = evidence.server.graph_tokens
    return replace(steps, tails=tail_errors(evidence.logged, steps.model, evidence.engine.behaviour, graphs))


def _from_clients(evidence: Evidence, draws: int, start: Profile) -> RecordsFit:
    """Around a start, since no steps were logged, or too few.

    Raises
    ------
    DataError
        The twin can serve none of the records.
    """
    profile, factor = start, 1.0
    for number in range(1, PASSES + 1):
        matches, unmatched = operating_points(evidence.all, profile)
        if not matches:
            why = "; ".join(f"{name}: {reason}" for name, reason in list(unmatched.items())[:3])
            raise DataError(f"the twin cannot serve any of {len(evidence.all)} records as {start.name} ({why})")
        rows = client_rows(matches, profile, evidence.in_time)
        factor = rows.factor if number == 1 else factor
        fit = fit_clients(rows, start, factor, draws if number == PASSES else 0)
        overhead = with_clients(UNKNOWN, client_overheads(rows, fit.steps.model).values())
        profile = around(start, fit, overhead)
    profile = profile_around(start, evidence, fit, overhead, unmatched)
    return RecordsFit(profile, fit.steps, LoadTimes(UNKNOWN, UNKNOWN), overhead)
