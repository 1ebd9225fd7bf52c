"""Servers started and stopped: one, several on one GPU, with MPS. Nothing outlives us, not even after kill -9.

with start_server("vllm", "--model tiny --enable-lora", log_folder="logs") as server:
    ...  # server.url
"""

from loratwin.launch.adapters import load_adapters
from loratwin.launch.failure import ServerError
from loratwin.launch.mps import Mps, start_mps
from loratwin.launch.replicas import memory_share, start_replicas
from loratwin.launch.server import Server, start_server

__all__ = [
    "Mps",
    "Server",
    "ServerError",
    "load_adapters",
    "memory_share",
    "start_mps",
    "start_replicas",
    "start_server",
]
