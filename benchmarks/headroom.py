"""How much of the largest margin a plan's configuration has, among what is equal in the objective.

    python -m benchmarks.headroom [NUMBER]      the shipped examples, then NUMBER drawn workloads (20)

A plan searches some slots and batch limits. Here all of a grid get margins: of those within 1 % of the best
throughput the largest growth is what the plan's own growth is divided by. A line for each workload, then the least.
"""

from __future__ import annotations

import sys

import numpy as np

from loratwin.perf import Profile, load_profile
from loratwin.plan.choice import NOISE, choose
from loratwin.plan.grid import SEQUENCES, coarse_slots, spread_order
from loratwin.plan.plan import plan
from loratwin.plan.question import SEEDS
from loratwin.plan.search import Finder, Settings
from loratwin.plan.trial import Bench
from loratwin.simulate.workers import Workers
from loratwin.workload import AdapterGroup, ShareGpt, WorkloadSpec, draw, example_names, load_spec, part_of

PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"


def drawn(number: int) -> WorkloadSpec:
    """Some busy adapters and a tail, half an hour, at loads from light to heavy."""
    rng = np.random.default_rng([number, 20_261_127])
    hot, tail = int(rng.integers(2, 12)), int(rng.integers(20, 180))
    rate = float(rng.uniform(3, 14))
    groups = (
        AdapterGroup(name="hot", count=hot, total_rate=rate * 0.6, ranks=16),
        AdapterGroup(name="tail", count=tail, total_rate=rate * 0.4, popularity="zipf", ranks=(8, 16)),
    )
    return WorkloadSpec(window_s=1800.0, groups=groups, lengths=ShareGpt(prompt_mean=250, output_mean=150))


def share_of_largest(spec: WorkloadSpec, profile: Profile) -> tuple[float, float, float]:
    """Growth of the plan's configuration, the largest of the grid, and the first as a part of the second."""
    found = plan(spec, profile)
    if found.best is None or not found.serves_all:
        return float("nan"), float("nan"), float("nan")
    if found.hour is not None:  # the plan is of its busiest hour
        spec = part_of(spec, found.hour.start_s)
    workloads = tuple(draw(spec, seed) for seed in SEEDS)
    bench = Bench(workloads, spread_order(workloads[0].adapters), profile)
    number = len(workloads[0].adapters)
    settings = Settings(max_num_batched_tokens=found.best.config.max_num_batched_tokens, headroom=found.headroom)
    with Workers(bench.measure, 1) as workers:
        finder = Finder(bench, settings, workers)
        configs = [finder.config(number, slots, seqs) for seqs in SEQUENCES for slots in coarse_slots(number)]
        tried = [each for each in finder.evaluate(number, configs, len(SEEDS), "grid") if each.works()]
        near = finder.with_margins(choose(tried, tolerance=NOISE).near)
    most = max((each.margin - 1 for each in near), default=float("nan"))
    growth = found.best.margin - 1
    return growth, most, growth / most if most else 1.0


def main(number: int) -> None:
    """Print the shares, one by one, and the least."""
    profile, shares = load_profile(PROFILE), []
    specs = {name: load_spec(f"example:{name}") for name in example_names()}
    specs |= {f"drawn {i}": drawn(i) for i in range(number)}
    for name, spec in specs.items():
        growth, most, share = share_of_largest(spec, profile)
        if np.isnan(share):
            print(f"{name}: one GPU does not serve all", flush=True)
            continue
        shares.append(share)
        print(f"{name}: +{100 * growth:.0f} % of at most +{100 * most:.0f} %: {share:.2f}", flush=True)
    print(f"least: {min(shares):.2f}, of {len(shares)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
