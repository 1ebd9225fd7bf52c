"""How long the twin takes for an hour of a fleet: python -m benchmarks.fleets [SERVERS] [ROUTER ...]

Five requests a second for each server. Seconds of the clock and of the processor, which tell what a busy machine cost
(the second process's, which a router that shares requests out beforehand has, are not in it).
"""

from __future__ import annotations

import sys
import time

from loratwin.fleet import Placement, Server, simulate_fleet
from loratwin.records import EngineConfig
from loratwin.workload import Workload, draw, parse_spec

PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"


def fleet(num_servers: int, rate: float) -> tuple[Placement, Workload]:
    """An hour of so many servers, ten adapters for each, every adapter on two of them."""
    group = {"name": "a", "count": 10 * num_servers, "ranks": [8], "total_rate": rate * num_servers}
    workload = draw(parse_spec({"window_s": 3600, "lengths": {"kind": "sharegpt"}, "groups": [group]}))
    config = EngineConfig(max_loras=32, max_lora_rank=8)
    servers = [Server(f"gpu-{k}", PROFILE, config) for k in range(num_servers)]
    shares = {}
    for i, name in enumerate(workload.adapters.name):
        other = i + 1 + i // num_servers % (num_servers - 1)
        shares[name] = {f"gpu-{i % num_servers}": 0.5, f"gpu-{other % num_servers}": 0.5}
    return Placement.of(servers, shares), workload


def main() -> None:
    """Print a line for each router."""
    num_servers = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    placement, workload = fleet(num_servers, rate=5.0)
    for router in sys.argv[2:] or ["llm-d-lora", "two-choices", "least-in-flight"]:
        start, used = time.perf_counter(), time.process_time()
        done = simulate_fleet(placement, workload, router, processes=2)
        gauges = done.run.gauges
        assert gauges is not None
        print(
            f"{num_servers} servers, {router}: {time.perf_counter() - start:.1f} s, {time.process_time() - used:.1f} s "
            f"of this process's core, {workload.num_requests:,} requests, {gauges.num_steps:,} steps"
        )


if __name__ == "__main__":
    main()
