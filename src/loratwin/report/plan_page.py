"""The report of a plan: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loratwin.formatting import SLOTS, number, plus_minus_text
from loratwin.plan import (
    Candidate,
    Plan,
    commands,
    explanation,
    host_memory_gib,
    lora_modules,
    verdict,
)
from loratwin.plan.line import LineChange, line_change_text
from loratwin.plan.sentences import NOT_SLOW, breaks_first, margin_text, server, serves
from loratwin.plan.what_if import WhatIf
from loratwin.report.page import HeadlineFigure, environment, milliseconds, share
from loratwin.report.plan_figures import by_slots, frontier_figures, over_time, starting
from loratwin.report.plan_tables import not_starting, plan_tables, too_few
from loratwin.simulate.outcome import LEVEL
from loratwin.version import __version__


def plan_report(plan: Plan, cases: Sequence[WhatIf] = (), line: LineChange | None = None) -> str:
    """The page as text. The same plan gives the same bytes.

    Parameters
    ----------
    plan
        To be shown.
    cases
        Of `loratwin.plan.what_if`; empty: none are shown.
    line
        What to change in a server's line; None: none was given.
    """
    template = environment().get_template("plan.html.j2")
    return template.render(**_content(plan, cases), line="" if line is None else line_change_text(line, plan))


def _content(plan: Plan, cases: Sequence[WhatIf]) -> dict[str, Any]:
    shown = starting(plan.alternatives, plan.best, plan.slo)
    return {
        "tables": {table.name: table for table in plan_tables(plan, cases)},
        "plan": plan,
        "verdict": verdict(plan),
        "explanation": explanation(plan),
        "breaks_first": " ".join(breaks_first(plan)).removeprefix("What breaks first: "),
        "server": server(plan),
        "serves": serves(plan),
        "cards": _cards(plan, plan.best) if plan.best is not None else [],
        "commands": commands(plan),
        "modules": lora_modules(plan)[:2] if plan.best is not None else [],
        "host_memory_gib": f"{host_memory_gib(plan):.1f}",
        "keys": shown.keys,
        "missing": any(not each.starved and each.misses_slo(plan.slo) for each in shown.candidates),
        "starving": any(each.starved for each in shown.candidates),
        "figures": by_slots(shown),
        "frontier": frontier_figures(shown),
        "not_starting": not_starting(plan.alternatives),
        "over_time": over_time(plan.run) if plan.run is not None else "",
        "too_few": too_few(plan.run) if plan.run is not None else "",
        "facts": _facts(plan),
        "not_slow": NOT_SLOW,
        "slots": SLOTS,
        "plus_minus": plus_minus_text(LEVEL),
        "version": __version__,
    }


def _cards(plan: Plan, best: Candidate) -> list[HeadlineFigure]:
    offered = number(best.mean("offered_throughput"))
    ttft, tpot = best.mean("ttft_mean_ms"), best.mean("tpot_mean_ms")
    ttft_p99, tpot_p99 = milliseconds(best.mean("ttft_p99_ms")), milliseconds(best.mean("tpot_p99_ms"))
    used = share(best.mean("kv_usage_max"))
    served = f"{len(plan.served)} adapters"
    wide = {name: _half_width(best, name) for name in ("total_throughput", "ttft_mean_ms", "tpot_mean_ms")}
    return [
        HeadlineFigure("Slots", str(best.slots), f"rank {best.config.max_lora_rank}, {served}", "to set"),
        HeadlineFigure(
            "Throughput",
            number(best.throughput),
            f"{wide['total_throughput']}tokens/s, of {offered} offered",
            "simulated",
        ),
        HeadlineFigure("First token", milliseconds(ttft), f"{wide['ttft_mean_ms']}mean; p99 {ttft_p99}", "simulated"),
        HeadlineFigure("Per token", milliseconds(tpot), f"{wide['tpot_mean_ms']}mean; p99 {tpot_p99}", "simulated"),
        HeadlineFigure("Margin", margin_text(best.margin), _margin_detail(plan), "simulated"),
        HeadlineFigure(
            "KV tokens",
            number(best.kv_tokens),
            f"used at most {used}",
            "simulated",
        ),
    ]


def _margin_detail(plan: Plan) -> str:
    """What the margin is, and where it lies."""
    known = plan.margin_interval
    lies = f"; {100 * (known.low - 1):+.0f} to {100 * (known.high - 1):+.0f} %" if known is not None else ""
    return f"more traffic before it fails{lies}"


def _half_width(best: Candidate, name: str) -> str:
    """`± 1.2 % ` (95 % confidence over the seeds), or nothing for a single seed."""
    interval = best.figures[name]
    if not interval.half_width > 0:
        return ""
    return f"± {100 * interval.half_width / interval.mean:.1f}\N{NO-BREAK SPACE}% "


def _facts(plan: Plan) -> list[tuple[str, str, str]]:
    """(what, value, where it comes from) of the evidence."""
    card = plan.profile.card
    seeds = ", ".join(str(seed) for seed in plan.seeds)
    return [
        ("Workload", f"{plan.workload}; {plan.window_s:g} s of traffic", "assumed"),
        ("Profile", f"{plan.profile.name} ({plan.profile.digest})", "fitted"),
        ("Fitted on", card.fitted_on, "measured"),
        ("Source of the measurements", card.source, "measured"),
        *[("Note", note, "") for note in card.notes],
        ("Simulations", f"{plan.num_simulated}, seeds {seeds}", "simulated"),
        ("loratwin", __version__, ""),
    ]
