"""From a verified placement to the plan: slots and margins, who takes over, the figures that are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isnan

from loratwin.fleet.balance import Entries
from loratwin.fleet.losses import fullest, reserves
from loratwin.fleet.packing import Packed, Packer
from loratwin.fleet.placement import Placement, Server
from loratwin.fleet.plan_result import Bound, FleetPlan, PlannedServer
from loratwin.fleet.problem import Problem
from loratwin.fleet.what_if import stress_cases
from loratwin.fleet.worst import worst_adapters
from loratwin.workload import BASE

WORST = 10
"""Adapters that are named as the worst."""


def finished(problem: Problem, packed: Packed) -> Packed:
    """With the best slots and limits for each server, as long as a loss is still borne; and with margins."""
    packer = problem.packer(range(BASE, len(problem.adapters)))
    tuned = packer.finished(packed)
    if problem.wishes.failures and not packer.accepts(tuned):
        servers = packer.servers(packed.entries, packed.kinds)
        tuned = packed._replace(candidates=tuple(problem.judge.with_margins(servers, packed.candidates)))
    return tuned


def fleet_plan(problem: Problem, packed: Packed, bound: Bound, changes: int | None, name: str) -> FleetPlan:
    """The plan.

    Parameters
    ----------
    changes
        Adapters to be moved; None: nothing is present.
    name
        Of the workload.
    """
    reserve = reserves(packed, problem.load, problem.adapters.rank.tolist()) if problem.wishes.failures else {}
    placement, packed = _placed(problem, packed, reserve)
    settings, oracle = problem.judge.settings[0], problem.judge.oracle
    return FleetPlan(
        workload=name,
        gpus=problem.gpus,
        target=problem.target,
        slo=oracle.slo,
        slo_for=oracle.targets.slo_for,
        group_slos=oracle.targets.own,
        headroom=settings.headroom,
        confidence=settings.confidence,
        failures=problem.wishes.failures,
        seeds=tuple(workload.seed for workload in problem.traffic.workloads),
        window_s=problem.traffic.workloads[0].window_s,
        placement=placement,
        servers=_servers(problem, packed, placement),
        bound=bound,
        adapters=problem.adapters.name,
        ranks=problem.adapters.rank,
        load=problem.load[:-1],
        moves=changes,
        chance=_chance(problem, packed),
        worst=tuple(worst_adapters(problem.judge, packed)[:WORST]),
        stress=stress_cases(problem, packed, reserve),
        notes=tuple(dict.fromkeys(note for each in packed.candidates for note in each.notes)),
        num_simulated=problem.judge.num_simulated,
    )


def _placed(problem: Problem, packed: Packed, reserve: Mapping[int, int]) -> tuple[Placement, Packed]:
    """The placement with those who take over, for whom there is room in host memory."""
    entries = Entries.of([*packed.entries.rows(), *((a, j, 0.0) for a, j in reserve.items())])
    counts = entries.counts(len(packed.kinds))
    candidates = tuple(
        replace(each, config=each.config.replace(max_cpu_loras=max(int(count), each.config.max_loras, 1)))
        for each, count in zip(packed.candidates, counts, strict=True)
    )
    servers = tuple(
        Server(f"gpu-{j}", problem.gpus[kind].name, candidates[j].config, problem.gpus[kind].price_per_h)
        for j, kind in enumerate(packed.kinds)
    )
    return Placement(servers, problem.adapters.name, *entries), packed._replace(candidates=candidates)


def _servers(problem: Problem, packed: Packed, placement: Placement) -> tuple[PlannedServer, ...]:
    loads, counts = packed.entries.loads(problem.load, len(packed.kinds)), placement.num_hosted()
    return tuple(
        PlannedServer(server.name, kind, int(counts[j]), float(loads[j]), packed.candidates[j])
        for j, (server, kind) in enumerate(zip(placement.servers, packed.kinds, strict=True))
    )


def _chance(problem: Problem, packed: Packed) -> float:
    """That the fullest server keeps up; NaN: it has no adapter."""
    (j,) = fullest(packed, problem.load, 1)
    chance = packed.candidates[j].chance
    asked = Packer.servers(packed.entries, packed.kinds)[j]
    if isnan(chance) and problem.judge.num_adapters(asked):
        chance = problem.judge.with_chance(asked, packed.candidates[j]).chance
    return chance
