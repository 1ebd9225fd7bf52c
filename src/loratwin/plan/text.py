"""A plan as text for a terminal: the verdict, what stands behind it, the alternatives, and how to start the server."""

from __future__ import annotations

from collections.abc import Sequence

from loratwin.formatting import milliseconds, number, share
from loratwin.learn import Advice, advice_text
from loratwin.plan.choice import Candidate
from loratwin.plan.deploy import commands
from loratwin.plan.plan import Plan
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
    parts += [verdict(plan), *explanation(plan), "", "Simulated:", alternatives_table(plan)]
    if plan.notes:
        parts += ["", "Extrapolated:", *(f"  {note}" for note in plan.notes)]
    for command in commands(plan):
        parts += ["", f"{command.title}:", command.text, *(f"  {remark}" for remark in command.remarks)]
    if what_if:
        parts += ["", "What if (the chosen configuration, and what to run where it fails):"]
        parts.append(aligned(what_if_rows(what_if, plan)))
    return "\n".join(parts)


def predicted_text(advice: Advice) -> str:
    """What the learned model says, and that it does."""
    return f"Predicted by the learned model:\n{advice_text(advice)}"


HEADER = ("slots", "seqs", "", "tokens/s", "served", "TTFT", "TTFT p99", "TPOT", "ITL p99", "KV tokens", "margin")


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


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Cells in columns, to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _row(candidate: Candidate, plan: Plan) -> tuple[str, ...]:
    times = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "itl_p99_ms")
    chosen = plan.best is not None and candidate.config == plan.best.config
    return (
        str(candidate.slots),
        str(candidate.config.max_num_seqs),
        "chosen" if chosen else status(candidate, plan.slo),
        number(candidate.throughput),
        share(candidate.mean("served_share")),
        *(milliseconds(candidate.mean(name)) for name in times),
        number(candidate.kv_tokens),
        margin_text(candidate.margin),
    )
