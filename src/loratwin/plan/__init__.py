"""What to run on one GPU: search with the twin, a rule that chooses, and the text that starts the server."""

from loratwin.plan.choice import Candidate, Choice, Objective, choose, closest
from loratwin.plan.deploy import Command, commands, host_memory_gib, lora_modules, serve_command
from loratwin.plan.export import plan_json
from loratwin.plan.margin import MarginInterval
from loratwin.plan.plan import plan
from loratwin.plan.question import HEADROOM, SEEDS, check_predicted_alone, parse_headroom
from loratwin.plan.result import Plan, Shortfall
from loratwin.plan.sentences import explanation, verdict
from loratwin.plan.text import plan_text

__all__ = [
    "HEADROOM",
    "SEEDS",
    "Candidate",
    "Choice",
    "Command",
    "MarginInterval",
    "Objective",
    "Plan",
    "Shortfall",
    "check_predicted_alone",
    "choose",
    "closest",
    "commands",
    "explanation",
    "host_memory_gib",
    "lora_modules",
    "parse_headroom",
    "plan",
    "plan_json",
    "plan_text",
    "serve_command",
    "verdict",
]
