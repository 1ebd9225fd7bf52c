"""How even a fleet stays while its customers drift: busiest server / mean server, hour by hour of the second week.

    python -m benchmarks.fleet_drift FILE [SERVERS ...]

FILE has ServeGen's clients (Apache-2.0, alibaba/ServeGen; not in this repository): columns workload, client, start_s
and rate, 14 days; a client stands for an adapter. Load is counted in requests. What is placed by the first week's
means (or changed hour by hour by the hours before) meets the second week's hours; nothing is known of the hour itself.
`moved` is the largest part of the adapters that was brought to another server in 24 hours, `replicas` how many there
are of an adapter in the end. Split finely, a replica carries at most a twentieth of a server's mean load; followed,
more are made hour by hour of what the last 24 hours brought, for at most a tenth of the adapters in any 24 hours.

`even router` is the same placement behind a router that evens the holders of an adapter out at once, as one that counts
what is in flight does: the requests of each hour are poured over the holders by the hour's own rates.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import floor
from pathlib import Path

import numpy as np

from loratwin.fleet.balance import Entries, deal, equal_parts, moves, rebalance, split_further
from loratwin.fleet.baselines import DEALERS
from loratwin.traces import read_clients
from loratwin.workload.arrays import F8

WEEK = 168
DAY = 24
MOVED_A_DAY = 0.1
"""Part of the adapters that may be moved in any 24 hours."""

SHARE = 0.05
"""Part of a server's mean load that a replica carries at most, where hot adapters are split finely."""


@dataclass
class Week:
    """What a way of placing came to in the second week."""

    ratios: list[float]
    even: list[float]
    moved: list[int]
    pairs: int = 0


def hourly(path: Path, workload: str) -> F8:
    """Requests per second of each client in each hour, shape (hours, clients)."""
    clients = read_clients(path, workload)
    hour = (clients.start_s // 3600).astype(int)
    rates = np.zeros((int(hour.max()) + 1, len(clients.names)))
    np.add.at(rates, (hour, clients.client), clients.rate_per_s * clients.window_s / 3600)
    return rates


def with_base(rates: F8) -> F8:
    """As dealers take loads: the last entry is without adapter."""
    return np.append(rates, 0.0)


def week_two(rates: F8, number: int, first: Entries, change: Callable[[Entries, int, list[int]], Entries]) -> Week:
    """Go through the second week; `change` is told the hour and the moves so far, and returns the next placement."""
    found, held = Week([], [], []), first
    for hour in range(WEEK, len(rates)):
        new = change(held, hour, found.moved)
        found.moved.append(moves(new, held))
        held = new
        load = with_base(rates[hour])
        mean = load.sum() / number
        if mean == 0:
            continue
        found.ratios.append(held.loads(load, number).max() / mean)
        found.even.append(rebalance(held, load, number, 0).loads(load, number).max() / mean)
    found.pairs = len(held.adapter)
    return found


def stays(held: Entries, hour: int, moved: list[int]) -> Entries:
    """Nothing is done."""
    return held


def ways(rates: F8, number: int) -> dict[str, Callable[[], Week]]:
    """Ways of placing by name."""
    mean = with_base(rates[:WEEK].mean(axis=0))
    names, ranks = [str(i) for i in range(len(mean) - 1)], np.zeros(len(mean) - 1, np.int32)

    def dealt(load: F8, half: float) -> Entries:
        return deal(load, equal_parts(number), half)

    def anew(held: Entries, hour: int, moved: list[int]) -> Entries:
        return dealt(with_base(rates[hour - 1]), 0.5)

    def follow(held: Entries, hour: int, moved: list[int]) -> Entries:
        left = floor(MOVED_A_DAY * len(names)) - sum(moved[-(DAY - 1) :])
        return split_further(held, with_base(rates[hour - DAY : hour].mean(axis=0)), number, SHARE, max(0, left))

    def fixed(first: Entries) -> Callable[[], Week]:
        return lambda: week_two(rates, number, first, stays)

    names_of = ("whole adapters", "hash, 1 replica", "hash, 2 replicas")
    found = {name: fixed(DEALERS[name](mean, ranks, names, number)) for name in names_of}
    found["hot split, a half"] = fixed(dealt(mean, 0.5))
    found["dealt anew each hour"] = lambda: week_two(rates, number, dealt(mean, 0.5), anew)
    found["split finely"] = fixed(dealt(mean, SHARE))
    found["... and followed"] = lambda: week_two(rates, number, dealt(mean, SHARE), follow)
    return found


def main() -> None:
    """Print a row for each workload, number of servers and way of placing."""
    path = Path(sys.argv[1])
    for number in [int(each) for each in sys.argv[2:]] or [8, 16]:
        for workload in ("m-large", "m-mid", "m-small"):
            rates = hourly(path, workload)
            for name, run in ways(rates, number).items():
                done = run()
                by_day = [sum(done.moved[i : i + DAY]) for i in range(max(1, len(done.moved) - DAY + 1))]
                ratio, p95 = np.median(done.ratios), np.percentile(done.ratios, 95)
                even, even95 = np.median(done.even), np.percentile(done.even, 95)
                print(
                    f"{workload:8} {number:3} servers  {name:22} {ratio:.2f} ({p95:.2f})  "
                    f"even router {even:.2f} ({even95:.2f})  "
                    f"replicas {done.pairs / rates.shape[1]:.1f}  moved {100 * max(by_day) / rates.shape[1]:.0f} %",
                    flush=True,
                )


if __name__ == "__main__":
    main()
