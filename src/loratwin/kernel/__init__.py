"""The engine, compiled: arrays in, arrays out. No randomness, no files, no globals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loratwin.lazy import lazy_names

if TYPE_CHECKING:
    from loratwin.kernel.cost import average_time_s, experts_s, roofline_s, step_time_s, sum_s, works
    from loratwin.kernel.engine import is_compiled
    from loratwin.kernel.fleet_trace import FleetTrace, Scrapes, ServerModel, run_fleet
    from loratwin.kernel.jit import source
    from loratwin.kernel.routing import Holders, RouterRule
    from loratwin.kernel.steps import adapter_combinations, gaps_per_step
    from loratwin.kernel.trace import EngineTrace, run_engine
    from loratwin.kernel.types import (
        AdapterCosts,
        ClientLoop,
        EngineLimits,
        EngineRules,
        Requests,
        StepCost,
        StepFeatures,
        StepTrace,
        StepWork,
    )

_HOMES = {
    "cost": ("average_time_s", "experts_s", "roofline_s", "step_time_s", "sum_s", "works"),
    "engine": ("is_compiled",),
    "fleet_trace": ("FleetTrace", "Scrapes", "ServerModel", "run_fleet"),
    "jit": ("source",),
    "routing": ("Holders", "RouterRule"),
    "steps": ("adapter_combinations", "gaps_per_step"),
    "trace": ("EngineTrace", "run_engine"),
    "types": (
        "AdapterCosts",
        "ClientLoop",
        "EngineLimits",
        "EngineRules",
        "Requests",
        "StepCost",
        "StepFeatures",
        "StepTrace",
        "StepWork",
    ),
}
"""Imported when asked for: whoever needs types only, as profiles and engines do, does without numba."""

__all__ = [
    "AdapterCosts",
    "ClientLoop",
    "EngineLimits",
    "EngineRules",
    "EngineTrace",
    "FleetTrace",
    "Holders",
    "Requests",
    "RouterRule",
    "Scrapes",
    "ServerModel",
    "StepCost",
    "StepFeatures",
    "StepTrace",
    "StepWork",
    "adapter_combinations",
    "average_time_s",
    "experts_s",
    "gaps_per_step",
    "is_compiled",
    "roofline_s",
    "run_engine",
    "run_fleet",
    "source",
    "step_time_s",
    "sum_s",
    "works",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
