"""Performance models: step time, adapter loading, memory, front end; and the profiles that hold their coefficients."""

from loratwin.engines.versions import EngineBehaviour, default_limits, generation_of
from loratwin.perf.account import KvCapacity, MemoryAccount, MemoryPart, kv_capacity, memory_account
from loratwin.perf.assume import assume, assume_memory, load_references, profile_for
from loratwin.perf.compare import compare_profiles
from loratwin.perf.domain import Domain
from loratwin.perf.flags import served_profile, step_time_of
from loratwin.perf.frontend import Frontend
from loratwin.perf.gpus import Gpu, find_gpu, gpu_names
from loratwin.perf.loading import LoadingModel
from loratwin.perf.memory import AssumedMemory, MemoryModel, ReplayedMemory, lora_reserved_bytes
from loratwin.perf.profile import (
    Card,
    Profile,
    ProfiledServer,
    dump_profile,
    load_profile,
    parse_profile,
    profile_names,
    user_names,
)
from loratwin.perf.sizing import ServerMemory, server_memory
from loratwin.perf.step_time import StepTimeModel
from loratwin.perf.store import add_profile, profile_file, save_profile
from loratwin.perf.uncertainty import Uncertainty

__all__ = [
    "AssumedMemory",
    "Card",
    "Domain",
    "EngineBehaviour",
    "Frontend",
    "Gpu",
    "KvCapacity",
    "LoadingModel",
    "MemoryAccount",
    "MemoryModel",
    "MemoryPart",
    "Profile",
    "ProfiledServer",
    "ReplayedMemory",
    "ServerMemory",
    "StepTimeModel",
    "Uncertainty",
    "add_profile",
    "assume",
    "assume_memory",
    "compare_profiles",
    "default_limits",
    "dump_profile",
    "find_gpu",
    "generation_of",
    "gpu_names",
    "kv_capacity",
    "load_profile",
    "load_references",
    "lora_reserved_bytes",
    "memory_account",
    "parse_profile",
    "profile_file",
    "profile_for",
    "profile_names",
    "save_profile",
    "served_profile",
    "server_memory",
    "step_time_of",
    "user_names",
]
