"""Performance models: step time, adapter loading, memory, front end; and the profiles that hold their coefficients."""

from loratwin.perf.domain import Domain
from loratwin.perf.engines import EngineBehaviour, default_limits, generation_of
from loratwin.perf.frontend import Frontend
from loratwin.perf.loading import LoadingModel
from loratwin.perf.memory import KvCapacity, MemoryModel, kv_capacity, lora_reserved_bytes, slot_bytes
from loratwin.perf.profile import Card, Profile, dump_profile, load_profile, profile_names
from loratwin.perf.shapes import LlmShapes
from loratwin.perf.step_time import StepTimeModel

__all__ = [
    "Card",
    "Domain",
    "EngineBehaviour",
    "Frontend",
    "KvCapacity",
    "LlmShapes",
    "LoadingModel",
    "MemoryModel",
    "Profile",
    "StepTimeModel",
    "default_limits",
    "dump_profile",
    "generation_of",
    "kv_capacity",
    "load_profile",
    "lora_reserved_bytes",
    "profile_names",
    "slot_bytes",
]
