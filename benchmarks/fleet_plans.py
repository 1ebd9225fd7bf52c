"""How long a plan of many adapters takes: python -m benchmarks.fleet_plans [ADAPTERS ...] [--clients FILE]

Ten minutes of traffic, one seed, lengths of ShareGPT, rank 8, H100 and Llama 3.1 8B: 25 requests a second for each 33
adapters, so that 1,000 adapters are 30 servers' work or so and 10,000 are 300's. Popularity by Zipf 1.2; with --clients
(ServeGen's parquet; not in this repository) also by the mean rates of its m-large clients over their 14 days, each
client's share dealt to as many adapters as it takes (with a spread of their own, a normal of the logarithm).
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from loratwin.errors import LoratwinError
from loratwin.fleet import Gpus, plan_fleet
from loratwin.perf import load_profile
from loratwin.traces import read_clients
from loratwin.workload import AdapterGroup, ShareGpt, WorkloadSpec, Zipf

PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"
WINDOW_S = 600.0
REQUESTS_PER_ADAPTER = 25 / 33


def like_clients(path: Path, number: int) -> tuple[float, ...]:
    """Weights of so many adapters, as skewed as the clients of m-large."""
    clients = read_clients(path, "m-large")
    shares = np.bincount(clients.client, clients.rate_per_s, len(clients.names))
    rng = np.random.Generator(np.random.PCG64(1))
    each = np.resize(shares, number) * np.exp(rng.normal(0, 0.5, number))
    return tuple(each.tolist())


def main() -> None:
    """Print a line for each case."""
    words = sys.argv[1:]
    clients = Path(words[words.index("--clients") + 1]) if "--clients" in words else None
    numbers = [int(word) for word in words if word.isdecimal()] or [1_000, 10_000]
    for number in numbers:
        laws = {"Zipf 1.2": Zipf(exponent=1.2)}
        if clients is not None:
            laws["ServeGen"] = like_clients(clients, number)  # type: ignore[assignment]
        for name, law in laws.items():
            rate = number * REQUESTS_PER_ADAPTER
            group = AdapterGroup(name="a", count=number, total_rate=rate, popularity=law, ranks=8)
            spec = WorkloadSpec(window_s=WINDOW_S, lengths=ShareGpt(), groups=(group,))
            _timed(f"{number:,} adapters, {name}", spec)


def _timed(name: str, spec: WorkloadSpec) -> None:
    simulations: Counter[str] = Counter()

    def progress(done: int, total: int, what: str) -> None:
        simulations[what] = max(simulations[what], done)

    start, used = time.monotonic(), time.process_time()
    try:
        plan = plan_fleet(spec, [Gpus(load_profile(PROFILE))], seeds=(0,), processes=2, progress=progress)
    except LoratwinError as error:
        print(f"{name}: {error} ({time.monotonic() - start:.0f} s)", flush=True)
        return
    loads = plan.loads
    print(
        f"{name}: {plan.num_servers} servers (at least {plan.bound.gpus} by {plan.bound.name}), fullest / mean "
        f"{loads.max() / loads.mean():.2f}, {len(plan.split)} split, {plan.num_simulated} simulations, "
        f"{time.monotonic() - start:.0f} s, {time.process_time() - used:.0f} s of this process's core",
        flush=True,
    )


if __name__ == "__main__":
    main()
