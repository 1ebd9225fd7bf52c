"""A profile from records of runs whose engine steps were logged: step time, loading, front end, memory, card."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.overhead_fit import Estimate, LoadTimes, fit_loads, fit_overhead
from loratwin.calibrate.run_evidence import Evidence
from loratwin.calibrate.step_fit import StepFit, fit_steps
from loratwin.calibrate.step_rows import STEP_LINEAR, step_rows
from loratwin.errors import DataError
from loratwin.launch.arguments import option
from loratwin.perf import Card, Domain, Frontend, LlmShapes, LoadingModel, MemoryModel, Profile, lora_reserved_bytes
from loratwin.perf.engines import EngineBehaviour, generation_of
from loratwin.perf.memory import GIB
from loratwin.perf.uncertainty import LEVELS, Quantiles, Regime, Uncertainty
from loratwin.records import Run

F8 = NDArray[np.float64]

GRAPH_TOKENS = 512.0
"""The largest step that vLLM replays as a CUDA graph (engine.md 1.5)."""

_BASE_ERROR = 0.1
"""Log error from which on runs without adapters are no evidence for one formula with the others."""

_FIGURES = ("itl_mean_ms", "tpot_mean_ms", "ttft_mean_ms")
"""Figures that are off as much as the step time is; of the throughput this holds where the server is saturated."""

COMMAND = "loratwin calibrate fit RECORDS"


@dataclass(frozen=True)
class RunFit:
    """A profile and how it came about."""

    profile: Profile
    steps: StepFit
    loads: LoadTimes
    overhead: Estimate
    notes: tuple[str, ...]


def fit_runs(evidence: Evidence, llm: LlmShapes, draws: int = 60) -> RunFit:
    """Fit everything that the runs tell.

    Raises
    ------
    DataError
        Too few steps, or none of a server with adapters.
    """
    on_cpu, first = evidence.on_cpu, evidence.first
    engine = generation_of(first.provenance.engine_version, "cpu" if on_cpu else "cuda")
    # Without adapters in a step no LoRA kernels run on a CPU either (vLLM 0.32: the mapping says so to every layer).
    behaviour = engine.behaviour.model_copy(update={"base_graphs": True}) if on_cpu else engine.behaviour
    graphs = 0.0 if on_cpu or option(first.provenance.server_args, "--enforce-eager") is not None else GRAPH_TOKENS
    steps, left_out = _fit_steps(evidence, behaviour, graphs, draws)
    runs = list(evidence.runs.values())
    loads = fit_loads(runs)
    overhead = fit_overhead(evidence.runs[name] for name in sorted(evidence.clients))
    notes = [*engine.notes, *evidence.notes, *left_out]
    if not overhead.number:
        overhead = fit_overhead(runs)
        notes.append("no client was in time: the front end's overhead is that of late ones")
    notes += _unknown(steps, loads, overhead)
    profile = Profile(
        name=f"{first.provenance.gpu or 'cpu'}/{first.provenance.engine_version}/{llm.name}".replace(" ", "-").lower(),
        engine=first.provenance.engine_version,
        behaviour=behaviour,
        llm=llm,
        memory=_memory(runs, llm, on_cpu),
        step_time=steps.model,
        loading=_loading(loads, steps.swap_extra_s),
        frontend=_frontend(runs, overhead),
        domain=_domain(runs),
        card=_card(evidence, steps, notes),
        uncertainty=_uncertainty(steps, loads, overhead),
    )
    return RunFit(profile, steps, loads, overhead, tuple(notes))


def _fit_steps(
    evidence: Evidence, behaviour: EngineBehaviour, graphs: float, draws: int
) -> tuple[StepFit, tuple[str, ...]]:
    """Fit all runs; those without adapters only if one formula holds for them too."""
    runs = list(evidence.runs.items())
    base = [name for name, run in runs if run.config.max_loras and not (run.requests.adapter >= 0).any()]
    whole = fit_steps(step_rows(runs, behaviour, graphs), graphs, draws)
    if not base or len(base) == len(runs):
        return whole, ()
    errors = {name: _log_error(evidence.runs[name], whole, behaviour, graphs) for name in base}
    worst = max(errors.values(), key=abs)
    if abs(worst) < _BASE_ERROR:
        return whole, ()
    rest = [(name, run) for name, run in runs if name not in base]
    without = fit_steps(step_rows(rest, behaviour, graphs), graphs, draws)
    note = (
        f"requests without adapter take {np.exp(worst):.2f} times what the formula for those with one says "
        f"({', '.join(errors)}): they are not fitted, and not predicted well"
    )
    return without, (note,)


def _log_error(run: Run, fit: StepFit, behaviour: EngineBehaviour, graphs: float) -> float:
    """Log of measured / predicted time of the steps of a run that was not fitted."""
    rows = step_rows([("run", run)], behaviour, graphs)
    model = fit.model
    dense = np.nanmean(
        (model.weights_s**model.roofline_power + (model.token_s * rows.tokens) ** model.roofline_power)
        ** (1 / model.roofline_power),
        axis=1,
    )
    predicted = dense + rows.features @ np.array([getattr(model, name) for name in STEP_LINEAR])
    return float(np.log(rows.duration_s.sum() / predicted.sum()))


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


def _loading(loads: LoadTimes, swap_extra_s: float) -> LoadingModel:
    swap = _known(loads.swap_in.value) + swap_extra_s
    return LoadingModel(
        swap_in_s=swap, swap_in_padded_s=swap, disk_load_s=_known(loads.disk_load.value), disk_load_per_rank_s=0.0
    )


def _known(value: float) -> float:
    return 0.0 if np.isnan(value) else value


def _frontend(runs: Iterable[Run], overhead: Estimate) -> Frontend:
    """Scrapes of later versions stop nothing worth modelling: they are part of the overhead."""
    return Frontend(
        overhead_s=_known(overhead.value),
        first_use_s=0.0,
        scrape_interval_s=1.0,
        series_s=0.0,
        series_name_s=0.0,
        stall_ttft=0.0,
        generated_share=_generated_share(runs),
    )


def _generated_share(runs: Iterable[Run]) -> float:
    """Output tokens generated per token asked for, of finished requests."""
    generated = asked = 0
    for run in runs:
        table = run.requests
        if table.asked_tokens is not None:
            done = ~np.isnan(table.finish_s)
            generated += int(table.output_tokens[done].sum())
            asked += int(table.asked_tokens[done].sum())
    return generated / asked if generated and asked else 1.0


def _memory(runs: Iterable[Run], llm: LlmShapes, on_cpu: bool) -> MemoryModel:
    """The KV cache as the servers told its size: given on a CPU; on a GPU what is left beside weights and slots.

    The GPU's memory and what else is in it cannot be told apart: half a GiB is taken for the latter.

    Raises
    ------
    DataError
        No server told its KV cache.
    """
    known = [(run.config, run.kv_tokens) for run in runs if run.kv_tokens]
    if not known:
        raise DataError("no run tells the size of its server's KV cache")
    sizes = [tokens * llm.kv_bytes_per_token / GIB for _, tokens in known]
    if on_cpu:
        kv = float(np.median(sizes)) * (1 + 1e-9)  # whole blocks must not be lost by rounding
        weights = llm.num_parameters * llm.dtype_bytes / GIB
        return MemoryModel(gpu_gib=kv + weights, other_gib=0.0, sampler_copies=0.0, extra_vocabulary=0, kv_gib=kv)
    copies, other = 4.0, 0.5
    totals = []
    for (config, _), kv in zip(known, sizes, strict=True):
        lora = lora_reserved_bytes(llm, config.max_loras, config.max_lora_rank, 0) / GIB
        weights = llm.num_parameters * llm.dtype_bytes / GIB
        sampler = copies * min(config.max_num_seqs, config.max_num_batched_tokens) * llm.vocab_size * 4 / GIB
        totals.append((kv + lora + weights + sampler + other) / config.gpu_memory_utilization)
    return MemoryModel(gpu_gib=float(np.median(totals)), other_gib=other, sampler_copies=copies, extra_vocabulary=0)


def _domain(runs: Iterable[Run]) -> Domain:
    """The ranges that the runs cover; prompts and outputs from 1 token on."""
    runs = list(runs)

    def span(name: str) -> tuple[int, int]:
        values = [getattr(run.config, name) for run in runs]
        return min(values), max(values)

    used = [len(run.adapters) for run in runs]
    utilization = [run.config.gpu_memory_utilization for run in runs]
    prompts = [float(run.requests.prompt_tokens.mean()) for run in runs if len(run.requests)]
    outputs = [float(run.requests.output_tokens.mean()) for run in runs if len(run.requests)]
    return Domain(
        max_loras=span("max_loras"),
        max_lora_rank=span("max_lora_rank"),
        max_num_seqs=span("max_num_seqs"),
        max_num_batched_tokens=span("max_num_batched_tokens"),
        gpu_memory_utilization=(min(utilization), max(utilization)),
        served_adapters=(1, max(used)),
        prompt_tokens_mean=(1.0, max(prompts)),
        output_tokens_mean=(1.0, max(outputs)),
    )


def _card(evidence: Evidence, steps: StepFit, notes: Iterable[str]) -> Card:
    num = sum(len(run.steps or ()) for run in evidence.runs.values())
    errors = np.array(list(steps.held_out.values()))
    held_out = {}
    if len(errors):
        percent = 100 * np.expm1(np.abs(errors))
        held_out["step time of a run, fitted without it"] = (
            f"MAPE {percent.mean():.1f} %, median {np.median(percent):.1f} %, bias {100 * errors.mean():+.1f} % "
            f"({len(errors)} runs)"
        )
    refused = tuple(f"refused: {name}: {reason}" for name, reason in evidence.refused.items())
    return Card(
        fitted_on=f"{num:,} engine steps of {len(evidence.runs)} runs",
        command=COMMAND,
        source="runs measured by loratwin",
        held_out_error=held_out,
        notes=(*notes, *refused),
    )


def _uncertainty(steps: StepFit, loads: LoadTimes, overhead: Estimate) -> Uncertainty:
    """Standard errors of all coefficients that are not 0, correlations of those of the step time."""
    model = steps.model.model_dump()
    fixed = {"roofline_power", "graph_tokens"}
    drawn = {n: v for n, v in steps.draws.items() if n in model and n not in fixed and model[n] > 0 and v.std() > 0}
    errors = {f"step_time.{name}": float(values.std()) for name, values in drawn.items()}
    correlation = np.atleast_2d(np.corrcoef(np.array(list(drawn.values())))) if drawn else np.empty((0, 0))
    names = tuple(errors)
    if loads.swap_in.number:
        errors["loading.swap_in_s"] = errors["loading.swap_in_padded_s"] = loads.swap_in.error
    if loads.disk_load.number:
        errors["loading.disk_load_s"] = loads.disk_load.error
    if overhead.number:
        errors["frontend.overhead_s"] = overhead.error
    return Uncertainty(
        standard_errors=errors,
        correlated=names,
        correlation=tuple(tuple(float(v) for v in row) for row in correlation),
        residual=_residual(steps),
        source="bootstrap over runs and stretches of time; residual: whole runs, fitted without each",
    )


def _residual(steps: StepFit) -> dict[Regime, dict[str, Quantiles]]:
    """Errors of figures for want of better: those of the step time of whole runs, fitted without each.

    A check replaces them by errors of the figures themselves.
    """
    errors = np.abs(np.array(list(steps.held_out.values())))
    if len(errors) < 3:
        return {}
    quantiles = tuple(round(float(q), 5) for q in np.quantile(errors, LEVELS))
    open_: dict[str, Quantiles] = dict.fromkeys(_FIGURES, quantiles)
    return {"open": open_, "saturated": {**open_, "total_throughput": quantiles}}
