"""Fleets: which adapters live on which of several servers, how many servers there must be, and who gets which request.

from loratwin.fleet import load_placement, split_requests
"""

from loratwin.fleet.comparing import Compared, compare_placements
from loratwin.fleet.files import check_placement_path, load_placement, placement_json, save_placement
from loratwin.fleet.gpus import Gpus, parse_gpus
from loratwin.fleet.measuring import client_routers, fleet_twin, measure_fleet, placement_to_measure
from loratwin.fleet.placement import Placement, Server
from loratwin.fleet.plan_result import FleetPlan
from loratwin.fleet.planning import plan_fleet
from loratwin.fleet.routers import ROUTERS, Router, find_router
from loratwin.fleet.schedule import FleetSchedule, plan_schedule
from loratwin.fleet.simulation import FleetRun, simulate_fleet
from loratwin.fleet.split import adapter_rows, part_of_server, routing_numbers, server_of_requests, split_requests
from loratwin.fleet.tuning import Tuned, tune_router
from loratwin.fleet.wishes import Wishes

__all__ = [
    "ROUTERS",
    "Compared",
    "FleetPlan",
    "FleetRun",
    "FleetSchedule",
    "Gpus",
    "Placement",
    "Router",
    "Server",
    "Tuned",
    "Wishes",
    "adapter_rows",
    "check_placement_path",
    "client_routers",
    "compare_placements",
    "find_router",
    "fleet_twin",
    "load_placement",
    "measure_fleet",
    "parse_gpus",
    "part_of_server",
    "placement_json",
    "placement_to_measure",
    "plan_fleet",
    "plan_schedule",
    "routing_numbers",
    "save_placement",
    "server_of_requests",
    "simulate_fleet",
    "split_requests",
    "tune_router",
]
