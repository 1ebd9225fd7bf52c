"""The report of a plan: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loratwin.formatting import number
from loratwin.metrics import SloRows, per_adapter
from loratwin.plan import (
    Candidate,
    Plan,
    commands,
    explanation,
    host_memory_gib,
    lora_modules,
    verdict,
)
from loratwin.plan.choice import smallest
from loratwin.plan.sentences import margin_text, server, serves
from loratwin.plan.what_if import WhatIf, what_if_rows
from loratwin.records import Run
from loratwin.report.page import HeadlineFigure, environment, milliseconds, share
from loratwin.report.plan_figures import by_slots, over_time
from loratwin.version import __version__

WORST_SHOWN = 12


@dataclass(frozen=True)
class AdapterRow:
    """One adapter in the list of the worst."""

    name: str
    rank: str
    requests: int
    served: str
    ttft_mean: str
    ttft_p99: str
    bar: float  # 0 to 100
    starved: bool
    misses: bool  # the SLO, by itself


def plan_report(plan: Plan, cases: Sequence[WhatIf] = ()) -> str:
    """The page as text. The same plan gives the same bytes.

    Parameters
    ----------
    plan
        To be shown.
    cases
        Of `loratwin.plan.what_if`; empty: none are shown.
    """
    template = environment().get_template("plan.html.j2")
    return template.render(**_content(plan, cases))


def _content(plan: Plan, cases: Sequence[WhatIf]) -> dict[str, Any]:
    return {
        "what_if": what_if_rows(cases, plan) if cases else [],
        "plan": plan,
        "verdict": verdict(plan),
        "explanation": explanation(plan),
        "server": server(plan),
        "serves": serves(plan),
        "cards": _cards(plan, plan.best) if plan.best is not None else [],
        "commands": commands(plan),
        "modules": lora_modules(plan)[:2] if plan.best is not None else [],
        "host_memory_gib": f"{host_memory_gib(plan):.1f}",
        "figures": by_slots(plan.table, plan.best),
        "over_time": over_time(plan.run) if plan.run is not None else "",
        "adapters": worst_adapters(plan.run, plan.customers) if plan.run is not None else [],
        "other_limits": [candidate for candidate in plan.alternatives if candidate not in plan.table],
        "tried_for_all": sorted(plan.shortfall.candidates, key=smallest)
        if plan.shortfall is not None and plan.served
        else [],
        "facts": _facts(plan),
        "errors": held_out_errors(plan.profile.card.held_out_error),
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


def worst_adapters(run: Run, customers: SloRows | None = None, count: int = WORST_SHOWN) -> list[AdapterRow]:
    """The adapters that fare worst: the starved, those that miss the SLO, then by the 99th percentile of TTFT."""
    figures = per_adapter(run)
    missing = set(customers.missing) if customers is not None else set()
    asked = np.flatnonzero(figures.requests > 0)
    p99 = np.nan_to_num(figures.ttft_p99_ms, nan=np.inf)
    order = sorted(asked, key=lambda i: (not figures.starved[i], figures.name[i] not in missing, -p99[i], i))[:count]
    finite = [p99[i] for i in order if np.isfinite(p99[i])]
    longest = max(finite, default=1.0)
    return [
        AdapterRow(
            name=figures.name[i],
            rank=str(run.adapters.rank[figures.adapter[i]]) if figures.adapter[i] >= 0 else "",
            requests=int(figures.requests[i]),
            served=share(float(figures.served_share[i])),
            ttft_mean=milliseconds(float(figures.ttft_mean_ms[i])),
            ttft_p99=milliseconds(float(figures.ttft_p99_ms[i])),
            bar=round(100 * min(1.0, float(p99[i] / longest)), 1),
            starved=bool(figures.starved[i]),
            misses=figures.name[i] in missing,
        )
        for i in order
    ]


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


METRICS = {
    "total_throughput": "throughput",
    "ttft_mean_ms": "TTFT, mean",
    "ttft_median_ms": "TTFT, median",
    "tpot_mean_ms": "TPOT, mean",
    "itl_mean_ms": "ITL, mean",
    "running_mean": "running requests, mean",
}


def held_out_errors(errors: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """The card's errors, named `metric, regime`, as a table: its header, and a row for each metric."""
    cells = {name.partition(", ")[::2]: text for name, text in errors.items()}
    regimes = list(dict.fromkeys(regime for _, regime in cells))
    metrics = list(dict.fromkeys(metric for metric, _ in cells))
    rows = [
        [METRICS.get(metric, metric), *(cells.get((metric, regime), "") for regime in regimes)] for metric in metrics
    ]
    return ["", *regimes], rows
