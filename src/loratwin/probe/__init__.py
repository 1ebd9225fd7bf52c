"""One row for each engine step of a real vLLM server, without a fork of it.

    arguments, environment = server_arguments(folder)   # start the server with these
    steps = read_steps(folder, zero_s, 0.0, 3600.0)      # times on this machine's monotonic clock, from zero_s

What runs inside the server is `server/loratwin_vllm_probe`.
"""

from loratwin.probe.launch import server_arguments
from loratwin.probe.log import LoadTable, read_facts, read_loads, read_notes, read_steps, write_parquet

__all__ = ["LoadTable", "read_facts", "read_loads", "read_notes", "read_steps", "server_arguments", "write_parquet"]
