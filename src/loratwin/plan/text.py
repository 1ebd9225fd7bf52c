"""A plan as text for a terminal: the verdict, what stands behind it, the alternatives, and how to start the server."""

from __future__ import annotations

from collections.abc import Sequence

from loratwin import notebook
from loratwin.formatting import SLOTS, aligned, milliseconds, number, share
from loratwin.learn import Advice, advice_text
from loratwin.plan.choice import Candidate, frontier
from loratwin.plan.deploy import commands
from loratwin.plan.result import Plan
from loratwin.plan.sentences import explanation, margin_text, status, verdict
from loratwin.plan.what_if import WhatIf, what_if_rows


def plan_text(plan: Plan, what_if: Sequence[WhatIf] = ()) -> str:
    """What `loratwin plan` prints.

    Parameters
    ----------
    what_if
        Cases of the plan, if any.
    """
    parts = [] if plan.predicted is None else [predicted_text(plan.predicted), ""]
    parts += [
        verdict(plan),
        *explanation(plan),
        "",
        "Simulated:",
        alternatives_table(plan),
        f"{SLOTS}; seqs: its --max-num-seqs",
    ]
    if rows := trades(plan):
        parts += ["", "What can be traded (nothing that was tried beats these in latency, throughput and margin):"]
        parts.append(aligned(rows))
    if plan.notes:
        parts += ["", "Notes:", *(f"  {note}" for note in plan.notes)]
    for command in commands(plan):
        parts += ["", f"{command.title}:", command.text, *(f"  {remark}" for remark in command.remarks)]
    if what_if:
        parts += ["", "What if (the chosen configuration, and what to run where it fails):"]
        parts += _what_if(what_if_rows(what_if, plan))
    return "\n".join(parts)


def _what_if(rows: Sequence[Sequence[str]]) -> list[str]:
    """The cases without what else is in 80 characters no room for; what to run instead below."""
    shown = [i for i, title in enumerate(rows[0]) if title not in ("served", "TTFT", "instead")]
    cases = [(row[0], row[rows[0].index("instead")]) for row in rows[1:]]
    return [
        aligned([[row[i] for i in shown] for row in rows]),
        *(f"  {name}: {'run ' * instead[0].isdigit()}{instead}" for name, instead in cases if instead),
    ]


def plan_html(plan: Plan) -> str:
    """What a notebook shows: the verdict, what stands behind it, and the alternatives."""
    header, *rows = alternatives(plan)
    return notebook.view(verdict(plan), notebook.lines(explanation(plan)), notebook.table(rows, header))


notebook.title.register(Plan, verdict)
notebook.html.register(Plan, plan_html)


def predicted_text(advice: Advice) -> str:
    """What the learned model says, and that it does."""
    return f"Predicted by the learned model:\n{advice_text(advice)}"


HEADER = ("slots", "seqs", "", "tokens/s", "served", "TTFT", "TTFT p99", "TPOT", "margin")
TRADES = ("slots", "seqs", "", "tokens/s", "end to end", "TTFT p99", "margin")

MOST_TRADES = 6
"""Rows of what can be traded; the report shows all."""


def alternatives(plan: Plan) -> list[tuple[str, ...]]:
    """Every configuration that was tried and starts as cells of text, under `HEADER`."""
    return [HEADER, *(_row(candidate, plan) for candidate in plan.alternatives if candidate.starts)]


def alternatives_table(plan: Plan) -> str:
    """The alternatives as aligned text; below those that start, why the others do not."""
    rows = alternatives(plan)
    width = max(len(row[0]) for row in rows)
    refused = {candidate.slots: candidate.why_not for candidate in plan.alternatives if not candidate.starts}
    lines = [f"{slots:>{width}}  does not start: {why_not}" for slots, why_not in refused.items()]
    return "\n".join([aligned(rows), *lines])


def _row(candidate: Candidate, plan: Plan) -> tuple[str, ...]:
    times = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms")
    return (
        *_named(candidate, plan),
        number(candidate.throughput),
        share(candidate.mean("served_share")),
        *(milliseconds(candidate.mean(name)) for name in times),
        margin_text(candidate.margin),
    )


def _named(candidate: Candidate, plan: Plan) -> tuple[str, str, str]:
    """Slots, sequences, and what is to be said of it."""
    chosen = plan.best is not None and candidate.config == plan.best.config
    what = "chosen" if chosen else status(candidate, plan.slo)
    return str(candidate.slots), str(candidate.config.max_num_seqs), what


def trades(plan: Plan) -> list[tuple[str, ...]]:
    """What works and no other configuration beats in latency, throughput and margin, as cells of text.

    Of many a few: the chosen one, the ends and what lies evenly between them by latency. Empty without a choice.
    """
    unbeaten = frontier([candidate for candidate in plan.alternatives if candidate.works(plan.slo)])
    if plan.best is None or len(unbeaten) < 2:
        return []
    shown = _evenly(sorted(unbeaten, key=lambda candidate: candidate.latency_ms), plan.best)
    return [TRADES, *(_trade(candidate, plan) for candidate in shown)]


def _evenly(ordered: Sequence[Candidate], best: Candidate) -> list[Candidate]:
    most = min(MOST_TRADES, len(ordered)) - 1
    places = {round(i * (len(ordered) - 1) / most) for i in range(most + 1)}
    return [candidate for i, candidate in enumerate(ordered) if i in places or candidate.config == best.config]


def _trade(candidate: Candidate, plan: Plan) -> tuple[str, ...]:
    times = (candidate.latency_ms, candidate.mean("ttft_p99_ms"))
    figures = (number(candidate.throughput), *map(milliseconds, times), margin_text(candidate.margin))
    return (*_named(candidate, plan), *figures)
