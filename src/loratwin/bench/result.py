"""From the journal of a load client to a `Run`: the same whether the client ended well, was stopped, or was killed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from loratwin.bench.gauges import scraped_gauges, scraped_prefix_counts
from loratwin.bench.record_context import RecordContext
from loratwin.bench.shared.failures import read_failures
from loratwin.bench.shared.job import REFERENCE_FILE, Job
from loratwin.bench.shared.journal import COLUMNS, LEAST_GAP_S, RequestJournal
from loratwin.bench.shared.left_out import load_left_out, what_it_costs
from loratwin.bench.shared.sharing import load_sharing
from loratwin.errors import DataError
from loratwin.metrics.validity import UNHEEDED, ended_early, validity
from loratwin.records import (
    DeliverySeries,
    GapHistogram,
    ReferenceLoad,
    RequestTable,
    Run,
)
from loratwin.records.columns import AnyArray, BoolArray, LongArray

F8 = np.float64


def window_start_s(folder: Path) -> float:
    """When the window opened, on the monotonic clock.

    Raises
    ------
    DataError
        It never did.
    """
    try:
        return float(json.loads((folder / "window.json").read_text())["start_s"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{folder}: the window never opened, there is nothing measured in it") from None


def run_from_journal(
    folder: Path, context: RecordContext, ended_s: float | None = None, trouble: Sequence[str] = ()
) -> Run:
    """The record of what was measured.

    Parameters
    ----------
    ended_s
        Where the window was cut short: when, in seconds from its start.
    trouble
        Reasons, beside those in the figures, why the run is not valid.

    Raises
    ------
    DataError
        The journal is damaged, or the window never opened.
    """
    job, journal, start = Job.load(folder), RequestJournal.open(folder), window_start_s(folder)
    window_s = job.window_s if ended_s is None else min(ended_s, job.window_s)
    columns = {name: _from_start(name, journal.array(name), start) for name in COLUMNS}
    reference, left_out = _reference(folder), load_left_out(folder)
    kinds = read_failures(folder, int(columns["failure"].max(initial=-1)) + 1)
    rows, sharing = _rows(columns, window_s, cut_short=ended_s is not None), load_sharing(folder)
    run = Run(
        kind="measured",
        window_s=window_s,
        requests=_requests(columns, window_s, rows),
        adapters=context.adapters,
        config=context.config,
        kv_tokens=context.kv_tokens,
        provenance=replace(
            context.provenance,
            left_out=left_out,
            notes=(*context.provenance.notes, *what_it_costs(left_out), *_notes(journal, kinds, reference)),
        ),
        failures=tuple(kinds),
        gauges=scraped_gauges(context.samples),
        prefix_cache=scraped_prefix_counts(context.samples, context.config.block_size),
        gaps=_gaps(journal),
        deliveries=_deliveries(journal, job.window_s, window_s),
        samples=context.samples,
        reference=reference,
        sharing=sharing and sharing.take(rows % len(sharing)),  # a closed loop goes through its requests again
    )
    run = _noticed(run)
    return replace(run, invalid=(*trouble, *validity(run)))


def _noticed(run: Run) -> Run:
    """What the answers' lengths say of a server that is no engine we know: whether it takes `ignore_eos` for nothing.

    An engine that heeds it otherwise has a fault, which makes the run invalid.
    """
    if run.provenance.engine_version or "ignore_eos" in run.provenance.left_out:
        return run
    short, finished = ended_early(run)
    if not short:
        return run
    provenance = replace(run.provenance, left_out=(*run.provenance.left_out, UNHEEDED))
    note = (
        f"the server takes ignore_eos and does not heed it: {short:,} of {finished:,} answers ended before the tokens "
        "that were asked for; output lengths are not controlled, and what came counts"
    )
    return replace(run, provenance=provenance).with_notes([note])


def _reference(folder: Path) -> ReferenceLoad | None:
    """What the reference loads found, as far as they came."""
    path = folder / REFERENCE_FILE
    tpot_by_time = json.loads(path.read_text()) if path.exists() else {}
    known = {when: float(seconds) for when, seconds in tpot_by_time.items() if seconds}
    return ReferenceLoad(**{"before_s": float("nan"), **known}) if known else None


def _from_start(name: str, values: AnyArray, start: float) -> AnyArray:
    return values - start if COLUMNS[name] == "d" else values


def _rows(columns: dict[str, AnyArray], window_s: float, cut_short: bool = False) -> LongArray:
    """Rows of the requests that were due in the window, in order of their sending.

    Of a window that was cut short those up to the last that was sent: the client did not come to the others.
    """
    due = columns["scheduled_s"] < window_s  # False for NaN: rows of a closed loop that were never due
    sent = columns["sent_s"]
    if cut_short:
        due &= columns["scheduled_s"] <= columns["scheduled_s"][~np.isnan(sent)].max(initial=-np.inf)
    rows = np.flatnonzero(due)
    return rows[np.argsort(_arrival_s(columns)[rows], kind="stable")]


def _arrival_s(columns: dict[str, AnyArray]) -> AnyArray:
    """When each was sent; of one that never was, when it was due."""
    return np.where(np.isnan(columns["sent_s"]), columns["scheduled_s"], columns["sent_s"])


def _requests(columns: dict[str, AnyArray], window_s: float, rows: LongArray) -> RequestTable:
    at = {name: values[rows] for name, values in columns.items()}
    finished = ~np.isnan(at["finish_s"]) & (at["finish_s"] <= window_s) & (at["failure"] < 0)
    never = np.full(len(rows), np.nan)
    return RequestTable(
        arrival_s=_arrival_s(columns)[rows],
        admitted_s=never,
        first_token_s=at["first_token_s"],
        finish_s=np.where(at["finish_s"] <= window_s, at["finish_s"], np.nan),  # of a failed one: when it failed
        adapter=at["adapter"],
        prompt_tokens=np.where(at["counted_prompt"] >= 0, at["counted_prompt"], at["prompt_tokens"]),
        output_tokens=_produced(at, finished),
        num_preemptions=np.zeros(len(rows), dtype=np.int32),
        refused=np.zeros(len(rows), dtype=np.bool_),
        scheduled_s=at["scheduled_s"],
        sent_s=at["sent_s"],
        asked_tokens=at["output_tokens"],
        received_tokens=at["received_tokens"],
        failure=at["failure"],
        replica=at["replica"],
        cached_tokens=at["counted_cached"] if (at["counted_cached"] >= 0).any() else None,
    )


def _produced(at: dict[str, AnyArray], finished: BoolArray) -> AnyArray:
    return np.where(finished, at["received_tokens"], at["output_tokens"])


def _gaps(journal: RequestJournal) -> GapHistogram:
    counts = np.frombuffer(journal.gaps, dtype=np.int64).reshape(-1, journal.shape.num_bins).copy()
    return GapHistogram(counts, LEAST_GAP_S, journal.shape.per_octave)


def _deliveries(journal: RequestJournal, planned_s: float, window_s: float) -> DeliverySeries:
    """Tokens over time; parts after the end of a window that was cut short are left out."""
    tokens = np.frombuffer(journal.tokens, dtype=np.int64).copy()
    ends = np.arange(1, len(tokens) + 1) * (planned_s / len(tokens))
    kept = int(np.searchsorted(ends, window_s, side="left")) + 1
    return DeliverySeries(end_s=np.minimum(ends[:kept], window_s), output_tokens=tokens[:kept])


def _notes(journal: RequestJournal, kinds: dict[str, str], reference: ReferenceLoad | None) -> list[str]:
    notes = [] if reference is None else [str(reference)]
    notes += [f"{kind}: first said {detail!r}" for kind, detail in kinds.items() if detail]
    if again := journal.count("sent_again"):
        notes.append(f"{again} requests sent again: the server had closed an idle connection")
    return notes
