"""The card of a profile from records: what it rests on, what was left out, what nobody told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from loratwin.calibrate.evidence import Evidence
from loratwin.calibrate.regression.client_figures import ClientFit
from loratwin.calibrate.regression.drift import Drift
from loratwin.calibrate.regression.overhead import FittedValue, LoadTimes
from loratwin.calibrate.regression.step_log import StepFit
from loratwin.engines.registry import recorded_arguments
from loratwin.llms import LlmShapes, names_llm
from loratwin.perf import Card, Profile
from loratwin.records.run import STEADY

_SAME_KV = 1.05
"""KV caches of the same server, from start to start, differ less."""

COMMAND = "loratwin calibrate fit RECORDS"


def measured_card(
    evidence: Evidence,
    llm: LlmShapes,
    steps: StepFit,
    loads: LoadTimes,
    overhead: FittedValue,
    drift: Drift,
    law: str,
    unmatched: Mapping[str, str],
) -> Card:
    """Of a profile from logged steps, clients' figures beside them or not; see `profile.measured_profile`."""
    notes = (
        *evidence.engine.notes,
        *evidence.notes,
        *_other_llm(evidence, llm),
        *filter(None, [law]),
        *drift_notes(drift),
        *_late(evidence, overhead),
        *_kv_differs(evidence),
        *_unknown(steps, loads, overhead),
    )
    usual = None if np.isnan(drift.usual) else round(drift.usual, 5)
    return _card(evidence, steps, notes, unmatched).model_copy(update={"usual_reference": usual})


def drift_notes(drift: Drift) -> list[str]:
    """How steady the machine was, and what became of it."""
    notes = []
    if drift.factors:
        by_time = sorted(drift.factors.items(), key=lambda one: one[1])
        (fastest, least), (slowest, most) = by_time[0], by_time[-1]
        error = "" if np.isnan(drift.error) else f", each +-{100 * drift.error:.0f} %"
        notes.append(
            f"the machine's speed: reference loads took {least:.2f} ({fastest}) to {most:.2f} ({slowest}) times the "
            f"usual of {len(drift.factors)} runs{error}; {_taken_out(drift)}"
        )
    if drift.again:
        measured, left = zip(*drift.again.values(), strict=True)
        after = f", {min(left):.2f} to {max(left):.2f} with that taken out" if drift.part else ""
        notes.append(
            f"identical runs, measured again: their steps took {min(measured):.2f} to {max(measured):.2f} times as "
            f"long ({len(measured)} pairs){after}"
        )
    return notes


def _taken_out(drift: Drift) -> str:
    if drift.part:
        return f"taken out of the step times by {100 * drift.part:.0f} %, and in the intervals"
    steady = all(1 / STEADY <= factor <= STEADY for factor in drift.factors.values())
    return "steady" if steady else "not taken out, since the runs do not follow them"


def card_around(
    start: Profile, evidence: Evidence, fit: ClientFit, overhead: FittedValue, unmatched: Mapping[str, str]
) -> Card:
    """Of a profile from clients' figures alone; see `profile.profile_around`."""
    notes = (
        *evidence.notes,
        *_other_llm(evidence, start.llm),
        *_kv_differs(evidence),
        *_as_in(start, fit, bool(evidence.kv_tokens), bool(overhead.number)),
    )
    return _card(evidence, fit.steps, notes, unmatched)


def _other_llm(evidence: Evidence, llm: LlmShapes) -> list[str]:
    """A note where the records name another LLM; no more, since a server may call its LLM anything."""
    served = {run.provenance.llm for run in evidence.all.values()}
    models = {recorded_arguments(run.provenance).text("model") or "" for run in evidence.all.values()}
    said = {name: names_llm(name, llm) for name in sorted(served | models)}
    others = [name for name, same in said.items() if same is False]
    if not others or True in said.values():
        return []
    return [
        f"the records name another LLM, {others[0]!r}, than the {llm.name!r} of this fit: if it is not just a name to "
        "serve by, the profile is wrong (--llm)"
    ]


def _as_in(start: Profile, fit: ClientFit, tells_kv: bool, tells_overhead: bool) -> list[str]:
    """What is the start's, one line each."""
    notes = [
        f"no engine steps were logged: start {start.name}, its step times x {fit.factor:.3g}",
        f"loads of adapters as in {start.name}: clients' figures do not tell them apart",
    ]
    if fit.untold:
        notes.append(
            f"near {start.name} x {fit.factor:.3g}, since clients' figures do not tell them: {', '.join(fit.untold)}"
        )
    if not tells_kv:
        notes.append(f"no server told the size of its KV cache: memory as in {start.name}")
    if not tells_overhead:
        notes.append(f"no run without a queue whose client was in time: the front end's overhead as in {start.name}")
    if fit.steps.num_outliers:
        notes.append(f"{fit.steps.num_outliers} rows far from the rest count little")
    return notes


def _late(evidence: Evidence, overhead: FittedValue) -> list[str]:
    if evidence.in_time or not overhead.number:
        return []
    return ["no client was in time: the front end's overhead is that of late ones"]


def _kv_differs(evidence: Evidence) -> list[str]:
    """Servers of the same limits whose KV caches differ: one profile cannot be right of all."""
    sizes: dict[tuple[float, ...], list[int]] = {}
    for c, number in evidence.kv_tokens:
        slots = (c.max_loras, c.max_lora_rank, c.max_num_seqs, c.max_num_batched_tokens, c.gpu_memory_utilization)
        sizes.setdefault(() if evidence.server.on_cpu else slots, []).append(number)
    return [
        f"servers of the same limits told KV caches of {min(tokens):,} to {max(tokens):,} tokens: their median counts"
        for tokens in sizes.values()
        if max(tokens) > _SAME_KV * min(tokens)
    ]


def _unknown(steps: StepFit, loads: LoadTimes, overhead: FittedValue) -> list[str]:
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
        fitted_on=_fitted_on(evidence, unmatched),
        command=COMMAND,
        source="runs measured by loratwin",
        held_out_error=held_out,
        notes=(*notes, *refused),
    )


def _fitted_on(evidence: Evidence, unmatched: Mapping[str, str]) -> str:
    """How much there was of each kind."""
    num = sum(len(run.steps or ()) for run in evidence.logged.values())
    clients = sum(name not in unmatched for name in evidence.unlogged)
    parts = [f"{num:,} engine steps of {len(evidence.logged)} runs"] if evidence.logged else []
    parts += [f"clients' figures of {clients} runs without steps"] if evidence.unlogged else []
    return " and ".join(parts)
