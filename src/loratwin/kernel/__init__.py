"""The engine, compiled: arrays in, arrays out. No randomness, no files, no globals."""

from loratwin.kernel.cost import average_time_s, step_time_s, works
from loratwin.kernel.engine import is_compiled
from loratwin.kernel.fleet_trace import FleetTrace, Scrapes, ServerModel, run_fleet
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
    "gaps_per_step",
    "is_compiled",
    "run_engine",
    "run_fleet",
    "step_time_s",
    "works",
]
