"""The profile that a fit of records makes: the step time and, from the same records, everything beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist

import numpy as np

from loratwin.calibrate.card import card_around, measured_card
from loratwin.calibrate.evidence import Evidence
from loratwin.calibrate.regression.client_figures import ClientFit
from loratwin.calibrate.regression.drift import Drift
from loratwin.calibrate.regression.overhead import UNKNOWN, FittedValue, LoadTimes
from loratwin.calibrate.regression.step_log import StepFit
from loratwin.calibrate.robust import error_quantiles
from loratwin.calibrate.server import profiled_server
from loratwin.errors import DataError
from loratwin.llms import LlmShapes
from loratwin.perf import Domain, Frontend, LoadingModel, MemoryModel, Profile, lora_reserved_bytes
from loratwin.perf.memory import GIB
from loratwin.perf.step_time import NO_TIMES
from loratwin.perf.uncertainty import LEVELS, Quantiles, Regime, Uncertainty
from loratwin.records import EngineConfig, Run

_TAILS = ("itl_p99_ms", "ttft_p99_ms")
"""Figures that are off by what the slowest steps are off."""


def measured_profile(
    evidence: Evidence,
    llm: LlmShapes,
    steps: StepFit,
    loads: LoadTimes,
    overhead: FittedValue,
    drift: Drift,
    law: str = "",
    unmatched: Mapping[str, str] | None = None,
) -> Profile:
    """The profile of fitted steps, all else from the same records.

    Parameters
    ----------
    drift
        Of the machine's speed: what of it was taken out of the steps is how far a server in use may be off.
    law
        Why runs without adapters were left out; "": they were not.
    unmatched
        By name: why a run without logged steps could not be used.

    Raises
    ------
    DataError
        No server told its KV cache.
    """
    server, runs = evidence.server, list(evidence.all.values())
    return Profile(
        name=_name(server.gpu or "cpu", server.engine_version, llm),
        engine=server.engine_version,
        behaviour=evidence.engine.behaviour,
        llm=llm,
        memory=_memory(evidence, llm),
        step_time=steps.model,
        loading=loading_of(loads, steps.swap_extra_s),
        frontend=frontend_of(runs, overhead),
        domain=domain_of(runs),
        uncertainty=uncertainty_of(steps, loads, overhead, drift),
        card=measured_card(evidence, llm, steps, loads, overhead, drift, law, unmatched or {}),
        server=profiled_server(evidence),
    )


def around(start: Profile, fit: ClientFit, overhead: FittedValue) -> Profile:
    """The start with the step time, and the front end's overhead, if it was told, of a fit around it."""
    known = {"overhead_s": overhead.value} if overhead.number else {}
    frontend = start.frontend.model_copy(update=known)
    return start.model_copy(update={"step_time": fit.steps.model, "frontend": frontend})


def profile_around(
    start: Profile,
    evidence: Evidence,
    fit: ClientFit,
    overhead: FittedValue,
    unmatched: Mapping[str, str],
) -> Profile:
    """The profile that clients' figures made of a start, and what they left of it."""
    runs, tells_kv = list(evidence.all.values()), bool(evidence.kv_tokens)
    uncertainty = uncertainty_of(fit.steps, LoadTimes(UNKNOWN, UNKNOWN), overhead, Drift())
    theirs = start.uncertainty.standard_errors if start.uncertainty else {}
    parts = ("loading",) if tells_kv else ("loading", "memory")
    kept = {name: error for name, error in theirs.items() if name.split(".")[0] in parts}
    errors = {"standard_errors": {**kept, **uncertainty.standard_errors}}
    fitted = around(start, fit, overhead)
    return fitted.model_copy(
        update={
            "name": _name(evidence.server.gpu or start.name.split("/")[0], start.engine, start.llm),
            "memory": _memory(evidence, start.llm) if tells_kv else start.memory,
            "frontend": fitted.frontend.model_copy(update={"generated_share": generated_share(runs)}),
            "domain": domain_of(runs),
            "card": card_around(start, evidence, fit, overhead, unmatched),
            "origin": "fitted",
            "server": profiled_server(evidence),
            "uncertainty": uncertainty.model_copy(update=errors),
        }
    )


def _name(gpu: str, engine: str, llm: LlmShapes) -> str:
    return f"{gpu}/{engine}/{llm.name}".replace(" ", "-").lower()


def _memory(evidence: Evidence, llm: LlmShapes) -> MemoryModel:
    server = evidence.server
    extra = server.engine.generation.extra_vocabulary if server.engine else 0
    return memory_of(evidence.kv_tokens, llm, server.on_cpu, extra, server.tensor_parallel)


def loading_of(loads: LoadTimes, swap_extra_s: float) -> LoadingModel:
    """Logged loads; what was not measured costs nothing."""
    swap = _known(loads.swap_in.value) + swap_extra_s
    return LoadingModel(
        swap_in_s=swap, swap_in_padded_s=swap, disk_load_s=_known(loads.disk_load.value), disk_load_per_rank_s=0.0
    )


def _known(value: float) -> float:
    return 0.0 if np.isnan(value) else value


def frontend_of(runs: Iterable[Run], overhead: FittedValue) -> Frontend:
    """Scrapes of later versions stop nothing worth modelling: they are part of the overhead."""
    return Frontend(
        overhead_s=_known(overhead.value),
        first_use_s=0.0,
        scrape_interval_s=1.0,
        series_s=0.0,
        series_name_s=0.0,
        stall_ttft=0.0,
        generated_share=generated_share(runs),
    )


def generated_share(runs: Iterable[Run]) -> float:
    """Output tokens generated per token asked for, of finished requests."""
    generated = asked = 0
    for run in runs:
        table = run.requests
        if table.asked_tokens is not None:
            done = ~np.isnan(table.finish_s)
            generated += int(table.output_tokens[done].sum())
            asked += int(table.asked_tokens[done].sum())
    return generated / asked if generated and asked else 1.0


def memory_of(
    kv_tokens: Sequence[tuple[EngineConfig, int]],
    llm: LlmShapes,
    on_cpu: bool,
    extra_vocabulary: int = 0,
    tensor_parallel: int = 1,
) -> MemoryModel:
    """The KV cache as the servers told its size: given on a CPU; on a GPU what is left beside weights and slots.

    The GPU's memory and what else is in it cannot be told apart: half a GiB is taken for the latter.

    Parameters
    ----------
    kv_tokens
        Configurations of servers, and the size of their KV cache in tokens.
    extra_vocabulary
        Rows that the engine version adds to the embedding for each slot.
    tensor_parallel
        GPUs that share the LLM; the figures are of each of them.

    Raises
    ------
    DataError
        No server told its KV cache.
    """
    if not kv_tokens:
        raise DataError("no run tells the size of its server's KV cache")
    t = 1 if on_cpu else tensor_parallel
    sizes = [tokens * llm.kv_bytes_on_gpu(t) / GIB for _, tokens in kv_tokens]
    if on_cpu:
        kv = float(np.median(sizes)) * (1 + 1e-9)  # whole blocks must not be lost by rounding
        weights = llm.num_parameters * llm.dtype_bytes / GIB
        return MemoryModel(gpu_gib=kv + weights, other_gib=0.0, sampler_copies=0.0, extra_vocabulary=0, kv_gib=kv)
    copies, other = 4.0, 0.5
    totals = []
    for (config, _), kv in zip(kv_tokens, sizes, strict=True):
        lora = lora_reserved_bytes(llm, config.max_loras, config.max_lora_rank, extra_vocabulary, t) / GIB
        weights = llm.weight_bytes_on_gpu(t) / GIB
        sampler = copies * min(config.max_num_seqs, config.max_num_batched_tokens) * llm.vocab_size * 4 / GIB
        totals.append((kv + lora + weights + sampler + other) / config.gpu_memory_utilization)
    return MemoryModel(
        gpu_gib=float(np.median(totals)),
        other_gib=other,
        sampler_copies=copies,
        extra_vocabulary=extra_vocabulary,
        tensor_parallel=t,
    )


def domain_of(runs: Iterable[Run]) -> Domain:
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
        served_adapters=(min(1, max(used)), max(used)),
        prompt_tokens_mean=(1.0, max(prompts)),
        output_tokens_mean=(1.0, max(outputs)),
    )


def uncertainty_of(steps: StepFit, loads: LoadTimes, overhead: FittedValue, drift: Drift) -> Uncertainty:
    """Standard errors of all coefficients that are not 0, correlations of those of the step time."""
    model = steps.model.model_dump()
    drawn = {n: v for n, v in steps.draws.items() if n in model and n not in NO_TIMES and model[n] > 0 and v.std() > 0}
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
        machine=_machine(steps, drift),
        beyond=steps.beyond,
        residual=_residual(steps),
        source="bootstrap over runs and stretches of time; machine: whole runs, fitted without each, and drift",
    )


def _residual(steps: StepFit) -> dict[Regime, dict[str, Quantiles]]:
    """What no factor of all times explains: tails, which a machine's interruptions lengthen more than the mean."""
    if len(steps.tails) < 3:
        return {}
    tails = dict.fromkeys(_TAILS, error_quantiles(np.array(list(steps.tails.values()))))
    return {"open": tails, "saturated": tails}


def _machine(steps: StepFit, drift: Drift) -> float:
    """Spread of a common factor of all times: of whole runs, fitted without each, and the drift that was taken out.

    So that 90 % of the runs lie within 90 % of it, a further one counted in (`error_quantiles`).
    """
    level = LEVELS.index(0.9)
    apart = [np.array(list(steps.held_out.values())), drift.taken_out]
    wide = [error_quantiles(errors)[level] for errors in apart if len(errors) >= 3]
    return round(float(np.hypot.reduce(wide)) / NormalDist().inv_cdf(0.95), 5) if wide else 0.0
