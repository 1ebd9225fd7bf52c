"""A profile from records of runs: of those whose engine steps were logged, of clients' figures, or of both.

Logged steps are fitted as they are (`steps`). Runs without them become rows at the twin's operating point
(`clients.runs`): beside logged steps as further rows of the same regression, by themselves as rows of a regression
around a start profile (`clients.fit`), which then also says what no client can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from loratwin.calibrate.evidence import Evidence
from loratwin.calibrate.profile import (
    domain_of,
    frontend_of,
    generated_share,
    loading_of,
    memory_of,
    told_kv,
    uncertainty_of,
)
from loratwin.calibrate.regression.clients import ClientFit, client_overheads, fit_client
from loratwin.calibrate.regression.overhead import Estimate, LoadTimes, fit_loads, fit_overhead
from loratwin.calibrate.regression.step_log import LEAST_ROWS, StepFit, fit_steps
from loratwin.calibrate.rows.clients import together
from loratwin.calibrate.rows.matched import Clients, match_runs
from loratwin.calibrate.rows.step_log import StepRows, step_rows
from loratwin.calibrate.start import start_for
from loratwin.errors import DataError
from loratwin.launch.arguments import option
from loratwin.perf import Card, LlmShapes, MemoryModel, Profile
from loratwin.perf.engines import EngineBehaviour, generation_of
from loratwin.perf.llms import names_llm
from loratwin.records import Run

GRAPH_TOKENS = 512.0
"""The largest step that vLLM replays as a CUDA graph (engine.md 1.5)."""

PASSES = 2
"""Operating points are looked for with the start, then with what came of it; logged steps are start enough."""

_BASE_ERROR = 0.1
"""Log error from which on runs without adapters are no evidence for one formula with the others."""

_SAME_KV = 1.05
"""KV caches of the same server, from start to start, differ less."""

COMMAND = "loratwin calibrate fit RECORDS"


@dataclass(frozen=True)
class RecordsFit:
    """A profile and how it came about."""

    profile: Profile
    steps: StepFit
    loads: LoadTimes
    overhead: Estimate
    notes: tuple[str, ...]


def fit_records(evidence: Evidence, llm: LlmShapes, draws: int = 60, start: Profile | None = None) -> RecordsFit:
    """Fit everything that the runs tell.

    Parameters
    ----------
    start
        For runs without logged steps, where no others are there; None: an assumed one, if the GPU is known.

    Raises
    ------
    DataError
        Too few steps, none of a server with adapters, or no profile to start from.
    """
    evidence = replace(evidence, notes=(*evidence.notes, *_other_llm(evidence, llm)))
    if evidence.runs:
        logged = _logged(evidence)
        if not evidence.plain:
            return _fit_logged(evidence, llm, draws, logged)
        if len(logged.rows) >= LEAST_ROWS:
            return _fit_both(evidence, llm, draws, logged)
    # What is logged, if anything, is too little to stand alone: its clients' figures count with the others'.
    return _fit_clients(evidence, llm, draws, start_for(evidence, llm, start))


def _other_llm(evidence: Evidence, llm: LlmShapes) -> list[str]:
    """A note where the records name another LLM; no more, since a server may call its LLM anything."""
    served = {run.provenance.llm for run in evidence.all.values()}
    models = {option(run.provenance.server_args, "--model") or "" for run in evidence.all.values()}
    said = {name: names_llm(name, llm) for name in sorted(served | models)}
    others = [name for name, same in said.items() if same is False]
    if not others or True in said.values():
        return []
    return [
        f"the records name another LLM, {others[0]!r}, than the {llm.name!r} of this fit: if it is not just a name to "
        "serve by, the profile is wrong (--llm)"
    ]


@dataclass(frozen=True)
class _Logged:
    """Logged steps, ready to be fitted; `base_out`: runs without adapter are left out, as the note says."""

    rows: StepRows
    behaviour: EngineBehaviour
    graph_tokens: float
    notes: tuple[str, ...]
    base_out: bool = False


def _fit_logged(evidence: Evidence, llm: LlmShapes, draws: int, logged: _Logged) -> RecordsFit:
    """From logged steps alone.

    Raises
    ------
    DataError
        None is of a server with adapters, so that LoRA would cost nothing.
    """
    if not any(run.config.max_loras for run in evidence.runs.values()):
        raise DataError("no run is of a server with adapters (--enable-lora): it cannot be told what they cost")
    steps = fit_steps(logged.rows, logged.graph_tokens, draws)
    return _with_steps(evidence, llm, logged, steps, _overhead(evidence), {})


def _with_steps(
    evidence: Evidence,
    llm: LlmShapes,
    logged: _Logged,
    steps: StepFit,
    overhead: Estimate,
    unmatched: Mapping[str, str],
) -> RecordsFit:
    """The profile of fitted steps, all else from the logged runs."""
    first, loads = evidence.first, fit_loads(evidence.runs.values())
    notes = [*logged.notes, *_late(evidence, overhead), *_kv_differs(evidence), *_unknown(steps, loads, overhead)]
    everything = evidence.all.values()
    profile = Profile(
        name=f"{evidence.gpu or 'cpu'}/{first.provenance.engine_version}/{llm.name}".replace(" ", "-").lower(),
        engine=first.provenance.engine_version,
        behaviour=logged.behaviour,
        llm=llm,
        memory=_memory(evidence, llm),
        step_time=steps.model,
        loading=loading_of(loads, steps.swap_extra_s),
        frontend=frontend_of(everything, overhead),
        domain=domain_of(everything),
        card=_card(evidence, steps, notes, unmatched),
        uncertainty=uncertainty_of(steps, loads, overhead),
    )
    return RecordsFit(profile, steps, loads, overhead, tuple(notes))


def _memory(evidence: Evidence, llm: LlmShapes) -> MemoryModel:
    version = evidence.engine_version
    extra = generation_of(version).generation.extra_vocabulary if version else 0
    return memory_of(evidence.all.values(), llm, evidence.on_cpu, extra, evidence.tensor_parallel)


def _logged(evidence: Evidence) -> _Logged:
    """Rows of all runs with steps; of those without adapters only if one formula holds for them too."""
    on_cpu, first = evidence.on_cpu, evidence.first
    engine = generation_of(first.provenance.engine_version, "cpu" if on_cpu else "cuda")
    behaviour, graphs = _engine(engine.behaviour, on_cpu, first)
    runs = list(evidence.runs.items())
    rows = step_rows(runs, behaviour, graphs)
    notes = (*engine.notes, *evidence.notes)
    base = [name for name, run in runs if _without_adapters(run)]
    if not base or len(base) == len(runs):
        return _Logged(rows, behaviour, graphs, notes)
    whole = fit_steps(rows, graphs, 0)
    errors = {name: _log_error(evidence.runs[name], whole, behaviour, graphs) for name in base}
    worst = max(errors.values(), key=abs)
    if abs(worst) < _BASE_ERROR:
        return _Logged(rows, behaviour, graphs, notes)
    rest = [(name, run) for name, run in runs if name not in base]
    note = (
        f"requests without adapter take {np.exp(worst):.2f} times what the formula for those with one says "
        f"({', '.join(errors)}): they are not fitted, and not predicted well"
    )
    return _Logged(step_rows(rest, behaviour, graphs), behaviour, graphs, (*notes, note), base_out=True)


def _engine(behaviour: EngineBehaviour, on_cpu: bool, run: Run) -> tuple[EngineBehaviour, float]:
    """What the server does, and the largest step that it replays as a graph.

    Without adapters in a step no LoRA kernels run on a CPU either (vLLM 0.32: the mapping says so to every layer).
    """
    if on_cpu:
        return behaviour.model_copy(update={"base_graphs": True}), 0.0
    eager = option(run.provenance.server_args, "--enforce-eager") is not None
    return behaviour, 0.0 if eager else GRAPH_TOKENS


def _without_adapters(run: Run) -> bool:
    return bool(run.config.max_loras) and not (run.requests.adapter >= 0).any()


def _fit_both(evidence: Evidence, llm: LlmShapes, draws: int, logged: _Logged) -> RecordsFit:
    """Logged steps and clients' figures in one regression; the former alone are where operating points start."""
    known = _fit_logged(evidence, llm, 0, logged)
    plain = {n: run for n, run in evidence.plain.items() if not (logged.base_out and _without_adapters(run))}
    clients = match_runs(plain, known.profile, evidence.clients)
    rows, overhead = logged.rows, known.overhead
    if clients.rows is not None:
        rows = together(logged.rows, clients.rows, known.steps.between_runs)
    steps = fit_steps(rows, logged.graph_tokens, draws)
    if clients.rows is not None:
        overhead = _joined(_overhead(evidence), client_overheads(clients.rows, steps.model).values())
    return _with_steps(evidence, llm, logged, steps, overhead, clients.unusable)


def _fit_clients(evidence: Evidence, llm: LlmShapes, draws: int, start: Profile) -> RecordsFit:
    """Around a start, since no steps were logged, or too few."""
    fit, profile = None, start
    factor = 1.0
    for number in range(1, PASSES + 1):
        clients = match_runs(evidence.all, profile, evidence.clients)
        if clients.rows is None:
            why = "; ".join(f"{name}: {reason}" for name, reason in list(clients.unusable.items())[:3])
            raise DataError(f"the twin cannot serve any of {len(evidence.all)} records as {start.name} ({why})")
        factor *= clients.factor if number == 1 else 1.0
        fit = fit_client(clients.rows, start, factor, draws if number == PASSES else 0)
        overhead = _joined(_none(), client_overheads(clients.rows, fit.steps.model).values())
        frontend = start.frontend.model_copy(update={"overhead_s": overhead.value} if overhead.number else {})
        profile = start.model_copy(update={"step_time": fit.steps.model, "frontend": frontend})
    assert fit is not None
    return _around(start, profile, evidence, fit, overhead, clients)


def _log_error(run: Run, fit: StepFit, behaviour: EngineBehaviour, graphs: float) -> float:
    """Log of measured / predicted time of the steps of a run that was not fitted."""
    rows = step_rows([("run", run)], behaviour, graphs)
    return float(np.log(rows.duration_s.sum() / rows.predicted_s(fit.model).sum()))


def _around(
    start: Profile, fitted: Profile, evidence: Evidence, fit: ClientFit, overhead: Estimate, clients: Clients
) -> RecordsFit:
    """The profile that clients' figures made of a start, and what they left of it."""
    runs, known = list(evidence.all.values()), LoadTimes(_none(), _none())
    tells_kv = bool(told_kv(runs))
    notes = [
        *evidence.notes,
        *_kv_differs(evidence),
        f"no engine steps were logged: start {start.name}, its step times x {fit.factor:.3g}",
        f"loads of adapters as in {start.name}: clients' figures do not tell them apart",
    ]
    if fit.untold:
        notes.append(
            f"near {start.name} x {fit.factor:.3g}, since clients' figures do not tell them: {', '.join(fit.untold)}"
        )
    if not tells_kv:
        notes.append(f"no server told the size of its KV cache: memory as in {start.name}")
    if not overhead.number:
        notes.append(f"no run without a queue whose client was in time: the front end's overhead as in {start.name}")
    if fit.steps.num_outliers:
        notes.append(f"{fit.steps.num_outliers} rows far from the rest count little")
    share = generated_share(runs)
    uncertainty = uncertainty_of(fit.steps, known, overhead)
    theirs = start.uncertainty.standard_errors if start.uncertainty else {}
    kept = {name: error for name, error in theirs.items() if name.split(".")[0] in ("loading", "memory")}
    errors = {**(kept if not tells_kv else {n: e for n, e in kept.items() if n.startswith("loading")}),
              **uncertainty.standard_errors}  # fmt: skip
    profile = fitted.model_copy(
        update={
            "name": _name(evidence, start),
            "memory": _memory(evidence, start.llm) if tells_kv else start.memory,
            "frontend": fitted.frontend.model_copy(update={"generated_share": share}),
            "domain": domain_of(runs),
            "card": _card(evidence, fit.steps, notes, clients.unusable),
            "origin": "fitted",
            "uncertainty": uncertainty.model_copy(update={"standard_errors": errors}),
        }
    )
    return RecordsFit(profile, fit.steps, known, overhead, tuple(notes))


def _name(evidence: Evidence, start: Profile) -> str:
    gpu = evidence.gpu or start.name.split("/")[0]
    return f"{gpu}/{start.engine}/{start.llm.name}".replace(" ", "-").lower()


def _none() -> Estimate:
    return Estimate(float("nan"), float("nan"), 0)


def _overhead(evidence: Evidence) -> Estimate:
    """The front end's share of TTFT from logged runs; if no client was in time, from those that were not."""
    found = fit_overhead(run for name, run in sorted(evidence.runs.items()) if name in evidence.clients)
    return found if found.number else fit_overhead(evidence.runs.values())


def _joined(logged: Estimate, client_means: Iterable[float]) -> Estimate:
    """An estimate and the means of further runs, each with the inverse of its squared error as weight.

    Of these the median counts: a run whose server stood still for a moment has a mean of hundreds of milliseconds.
    """
    values = np.array(list(client_means))
    if not len(values):
        return logged
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    error = 1.2533 * spread / np.sqrt(len(values)) if spread > 0 else abs(middle)
    middle = max(0.0, middle)
    if not logged.number:
        return Estimate(middle, float(error), len(values))
    precision = np.array([1 / max(logged.error, 1e-6) ** 2, 1 / max(float(error), 1e-6) ** 2])
    value = float(precision @ np.array([logged.value, middle]) / precision.sum())
    return Estimate(value, float(precision.sum() ** -0.5), logged.number + len(values))


def _late(evidence: Evidence, overhead: Estimate) -> list[str]:
    if evidence.clients or not overhead.number:
        return []
    return ["no client was in time: the front end's overhead is that of late ones"]


def _kv_differs(evidence: Evidence) -> list[str]:
    """Servers of the same limits whose KV caches differ: one profile cannot be right of all."""
    sizes: dict[tuple[float, ...], list[int]] = {}
    for c, tokens in told_kv(evidence.all.values()):
        slots = (c.max_loras, c.max_lora_rank, c.max_num_seqs, c.max_num_batched_tokens, c.gpu_memory_utilization)
        sizes.setdefault(() if evidence.on_cpu else slots, []).append(tokens)
    return [
        f"servers of the same limits told KV caches of {min(each):,} to {max(each):,} tokens: their median counts"
        for each in sizes.values()
        if max(each) > _SAME_KV * min(each)
    ]


def _unknown(steps: StepFit, loads: LoadTimes, overhead: Estimate) -> list[str]:
    """What the evidence did not tell, one line each kind of reason."""
    notes = []
    for why in dict.fromkeys(steps.unknown.values()):
        names = ", ".join(name for name, reason in steps.unknown.items() if reason == why)
        notes.append(f"taken as 0 ({why}): {names}")
    if not loads.swap_in.number:
        notes.append("no swap-in was measured: it is taken to cost nothing")
    if not loads.disk_load.number:
        notes.append("no load from disk was measured: it is taken to cost nothing")
    if not overhead.number:
        notes.append("no first token could be followed from step to client: no overhead of the front end")
    if steps.num_outliers:
        notes.append(f"{steps.num_outliers} rows of steps far from the rest count little")
    return notes


def _card(evidence: Evidence, steps: StepFit, notes: Iterable[str], unmatched: Mapping[str, str]) -> Card:
    errors = np.array(list(steps.held_out.values()))
    held_out = {}
    if len(errors):
        percent = 100 * np.expm1(np.abs(errors))
        held_out["step time of a run, fitted without it"] = (
            f"MAPE {percent.mean():.1f} %, median {np.median(percent):.1f} %, bias {100 * errors.mean():+.1f} % "
            f"({len(errors)} runs)"
        )
    refused = tuple(f"refused: {name}: {reason}" for name, reason in {**evidence.refused, **unmatched}.items())
    return Card(
        fitted_on=_evidence_words(evidence, unmatched),
        command=COMMAND,
        source="runs measured by loratwin",
        held_out_error=held_out,
        notes=(*notes, *refused),
    )


def _evidence_words(evidence: Evidence, unmatched: Mapping[str, str]) -> str:
    """How much there was of each kind."""
    num = sum(len(run.steps or ()) for run in evidence.runs.values())
    clients = sum(name not in unmatched for name in evidence.plain)
    words = [f"{num:,} engine steps of {len(evidence.runs)} runs"] if evidence.runs else []
    words += [f"clients' figures of {clients} runs without steps"] if evidence.plain else []
    return " and ".join(words)
