"""A plan as plain data, to be written as JSON. What is not known is null."""

from __future__ import annotations

from typing import Any

from loratwin.metrics import SloRows
from loratwin.plan.choice import Candidate
from loratwin.plan.deploy import host_memory_gib, lora_modules, serve_command, versions
from loratwin.plan.result import Plan
from loratwin.plan.sentences import explanation, verdict
from loratwin.records.plain import as_plain
from loratwin.version import __version__


def plan_json(plan: Plan) -> dict[str, Any]:
    """Everything that the plan says, simulated figures with their 95 % half-widths over the seeds."""
    commands: dict[str, str] = {}
    if plan.best is not None:
        commands = {version: serve_command(plan, version) for version in versions(plan)}
    return as_plain(
        {
            "format": 1,
            "kind": "simulated",
            "loratwin_version": __version__,
            "profile": plan.profile.name,
            "profile_hash": plan.profile.digest,
            "workload": plan.workload,
            "seeds": list(plan.seeds),
            "objective": plan.objective,
            "slo": str(plan.slo) if plan.slo is not None else None,
            "slo_for": plan.slo_for,
            "group_slos": {name: str(slo) for name, slo in plan.group_slos.items()},
            "customers": None if plan.customers is None else _rows(plan.customers),
            "own_limits": {
                each.name: {"reached_s": _reached(each.whole), "customers": _rows(each.customers)}
                for each in plan.own_limits
            },
            "headroom": plan.headroom,
            "confidence": plan.confidence or None,
            "verdict": verdict(plan),
            "explanation": explanation(plan),
            "serves_all": plan.serves_all,
            "num_adapters": len(plan.adapters),
            "gpus_per_server": plan.profile.memory.tensor_parallel,
            "served_adapters": list(plan.served_names),
            "best": candidate_json(plan.best) if plan.best is not None else None,
            "margin": plan.margin_interval._asdict() if plan.margin_interval is not None else None,
            "biggest_customer": _biggest(plan),
            "forecast": _forecast(plan),
            "busiest_hour": _hour(plan),
            "without_prefix_cache": None if plan.without_cache is None else vars(plan.without_cache),
            "near_optimal_slots": list(plan.choice.near_slots),
            "alternatives": list(map(candidate_json, plan.alternatives)),
            "tried_for_all": [candidate_json(candidate) for candidate in plan.shortfall.candidates]
            if plan.shortfall
            else [],
            "notes": list(plan.notes),
            "host_memory_gib": host_memory_gib(plan),
            "vllm_serve": commands,
            "lora_modules": lora_modules(plan) if plan.best is not None else [],
        }
    )


def _biggest(plan: Plan) -> dict[str, Any] | None:
    """How far the biggest customer can grow, and what the server does as it drifts or bursts."""
    if plan.biggest is None:
        return None
    cases = [
        {
            "factor": case.factor,
            "is_burst": case.is_burst,
            "keeps_up": case.candidate.keeps_up(plan.slo),
            **candidate_json(case.candidate),
        }
        for case in plan.biggest.cases
    ]
    return {**plan.biggest._asdict(), "cases": cases}


def _rows(rows: SloRows) -> dict[str, Any]:
    """Limits asked of each: what it reaches in seconds, whether it misses, or cannot be told."""
    return {
        "adapters": list(rows.name),
        "requests": rows.requests,
        "missing": list(rows.missing),
        "num_undecided": rows.num_undecided,
        "value_s": {limit.name: values for limit, values in zip(rows.limits, rows.value_s, strict=True)},
    }


def _reached(whole: SloRows) -> dict[str, float]:
    """Seconds that a group as a whole has of each limit."""
    return {limit.name: float(values[0]) for limit, values in zip(whole.limits, whole.value_s, strict=True)}


def _hour(plan: Plan) -> dict[str, Any] | None:
    if plan.hour is None:
        return None
    known = plan.whole.summary if plan.whole is not None else None
    return {**vars(plan.hour), "whole_window": None if known is None else vars(known)}


def _forecast(plan: Plan) -> dict[str, Any] | None:
    if plan.forecast is None:
        return None
    return {"level": plan.forecast.level, "intervals": plan.forecast.ends(), "notes": list(plan.forecast.notes)}


def candidate_json(candidate: Candidate) -> dict[str, Any]:
    """A configuration and its figures as plain data."""
    return as_plain(
        {
            "config": candidate.config.model_dump(),
            "served_adapters": candidate.served_adapters,
            "kv_tokens": candidate.kv_tokens,
            "starts": candidate.starts,
            "why_not": candidate.why_not,
            "starved": candidate.starved,
            "starving_adapters": candidate.starving_adapters,
            "missing": list(candidate.missing),
            "has_headroom": candidate.has_headroom,
            "chance": candidate.chance,
            "is_likely": candidate.is_likely,
            "margin": candidate.margin,
            "e2e_mean_ms": candidate.latency_ms,
            "waits": candidate.waits,
            "figures": {name: interval.as_json() for name, interval in candidate.figures.items()},
            "slo_s": {name: interval.as_json() for name, interval in candidate.slo_s.items()},
            "real_slo_s": {name: interval.as_json() for name, interval in candidate.real_slo_s.items()},
        }
    )
