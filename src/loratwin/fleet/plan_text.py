"""A plan of a fleet in words and as plain data."""

from __future__ import annotations

from math import isnan
from typing import Any

from loratwin.fleet.files import placement_json
from loratwin.fleet.plan_result import FleetPlan, PlannedServer
from loratwin.formatting import aligned, chance_text, first_of, milliseconds, number
from loratwin.plan.export import candidate_json
from loratwin.plan.sentences import margin_text
from loratwin.records.plain import as_plain
from loratwin.version import __version__

MOST_SERVERS, MOST_NAMES, MOST_WORST = 40, 5, 5
"""Rows and names that a terminal is given; JSON has all."""


def fleet_plan_lines(plan: FleetPlan) -> list[str]:
    """Verdict, what stands behind it, the servers, the worst adapters, what if."""
    return [
        *verdict_lines(plan),
        "",
        "Simulated, each server with what it gets:",
        *aligned([_HEADER, *map(_row, plan.servers[:MOST_SERVERS])]).split("\n"),
        *([f"... and {plan.num_servers - MOST_SERVERS} more (--json)"] if plan.num_servers > MOST_SERVERS else []),
        "",
        "Adapters that wait longest:",
        *aligned([("adapter", "server", "requests", "TTFT", "TTFT p99"), *_worst(plan)]).split("\n"),
        "",
        "What if:",
        *(f"  {case.name}: {_case(case.failing)}" for case in plan.stress),
        *(f"note: {note}" for note in plan.notes),
    ]


def verdict_lines(plan: FleetPlan) -> list[str]:
    """How many servers, and what stands behind it; the first is the answer."""
    gpus = ", ".join(
        f"{count} x {each.name}"
        for kind, each in enumerate(plan.gpus)
        if (count := sum(server.kind == kind for server in plan.servers))
    )
    lines = [
        f"{len(plan.adapters):,} adapters on {plan.num_servers} servers: {gpus}.",
        f"At least {plan.bound.gpus} by {plan.bound.name} ({plan.bound.why}).",
    ]
    if plan.group_slos:
        own = "; ".join(f"{name} {str(slo).replace(',', ', ')}" for name, slo in plan.group_slos.items())
        lines.append(f"Kept on every server, of single groups: {own}.")
    if plan.price_per_h is not None:
        lines.append(f"Price: {number(plan.price_per_h)} an hour.")
    if not isnan(plan.fullest_to_mean):
        lines.append(f"Fullest server / mean: {plan.fullest_to_mean:.2f} by tokens.")
    if plan.split:
        lines.append(f"On several servers: {first_of(plan.split, MOST_NAMES)}.")
    if plan.failures:
        lines.append("One server can be lost: others hold its adapters in reserve (fraction 0).")
    if plan.moves is not None:
        lines.append(f"Adapters to be moved from the present placement: {plan.moves}.")
    if chance := chance_text(plan.chance):
        lines.append(f"The chance that the fullest server keeps up is {chance}.")
    return lines


_HEADER = ("server", "adapters", "tokens/s", "slots", "rank", "seqs", "TTFT p99", "margin")


def _row(server: PlannedServer) -> tuple[str, ...]:
    config = server.candidate.config
    return (
        server.name,
        f"{server.adapters:,}",
        number(server.tokens_per_s),
        str(config.max_loras),
        str(config.max_lora_rank),
        str(config.max_num_seqs),
        milliseconds(server.candidate.mean("ttft_p99_ms")),
        margin_text(server.candidate.margin),
    )


def _worst(plan: FleetPlan) -> list[tuple[str, ...]]:
    return [
        (each.name, each.server, str(each.requests), milliseconds(each.ttft_mean_ms), milliseconds(each.ttft_p99_ms))
        for each in plan.worst[:MOST_WORST]
    ]


def _case(failing: tuple[str, ...]) -> str:
    return f"fails on {first_of(failing, MOST_NAMES)}" if failing else "every server keeps up"


def fleet_plan_json(plan: FleetPlan) -> dict[str, Any]:
    """Everything that the plan says; the key `placement` is what `load_placement` reads."""
    return as_plain(
        {
            "format": 1,
            "kind": "fleet plan",
            "loratwin_version": __version__,
            "workload": plan.workload,
            "gpus": [
                {"profile": each.name, "count": each.count, "price_per_h": each.price_per_h} for each in plan.gpus
            ],
            "target": plan.target,
            "slo": str(plan.slo) if plan.slo is not None else None,
            "slo_for": plan.slo_for,
            "group_slos": {name: str(slo) for name, slo in plan.group_slos.items()},
            "headroom": plan.headroom,
            "confidence": plan.confidence or None,
            "failures": plan.failures,
            "seeds": list(plan.seeds),
            "num_servers": plan.num_servers,
            "bound": {"gpus": plan.bound.gpus, "name": plan.bound.name, "why": plan.bound.why},
            "price_per_h": plan.price_per_h,
            "moves": plan.moves,
            "chance": plan.chance,
            "servers": [_server_json(plan, server) for server in plan.servers],
            "split": list(plan.split),
            "worst": list(plan.worst),
            "what_if": [{"name": case.name, "failing": list(case.failing)} for case in plan.stress],
            "notes": list(plan.notes),
            "num_simulated": plan.num_simulated,
            "placement": placement_json(plan.placement),
        }
    )


def _server_json(plan: FleetPlan, server: PlannedServer) -> dict[str, Any]:
    return {
        "name": server.name,
        "profile": plan.gpus[server.kind].name,
        "adapters": server.adapters,
        "tokens_per_s": server.tokens_per_s,
        **candidate_json(server.candidate),
    }
