"""Workloads small enough for a test: simulated for a minute, or made up by a formula."""

from __future__ import annotations

import numpy as np

from loratwin.learn.cases.case import Case
from loratwin.learn.cases.design import LLAMA, QWEN
from loratwin.learn.cases.generate import Explored
from loratwin.learn.cases.search import SLOTS, SimulatedHour
from loratwin.perf import Profile, load_profile

PROFILE: Profile = load_profile(LLAMA)


def minute_case(number: int = 0, rate: float = 1.0) -> Case:
    """A workload of a minute; a GPU serves some dozens of its adapters."""
    rates = (0.5 * rate * (1 + number / 10), rate * (1 + number / 10))
    return Case(f"minute-{number}", LLAMA, rates, (8, 16), 200.0, 100.0, window_s=60.0)


def made_up(num: int = 40, seed: int = 0) -> list[Explored]:
    """Workloads whose servers follow a formula: 4000 tokens/s of output are served, slots matter a little."""
    rng = np.random.default_rng(seed)
    return [_made_up(rng, i) for i in range(num)]


def _made_up(rng: np.random.Generator, number: int) -> Explored:
    rate = float(np.exp(rng.uniform(np.log(0.02), np.log(2.0))))
    rank = int(rng.choice([8, 16, 32]))
    case = Case(f"c{number}", LLAMA if number % 2 else QWEN, (rate / 2, 1.5 * rate), (8, rank), 200.0, 200.0)
    most = 4000 / (rate * 200) * (16 / rank) ** 0.2
    counts = sorted({max(1, round(most * f)) for f in (0.2, 0.5, 0.75, 0.9, 0.96, 1.0, 1.04, 1.3)})
    rows = [_row(case, n, g, most) for n in counts for g in SLOTS if g <= max(n, 4)]
    return Explored(case, tuple(rows))


def _row(case: Case, adapters: int, slots: int, most: float) -> SimulatedHour:
    best = max(4.0, 0.3 * most)
    away = 0.005 * abs(np.log(slots / best))
    share = min(1.0, (0.9 - 0.5 * (adapters / most - 1.0)) - away)
    offered = adapters * case.mean_rate * 400
    return SimulatedHour(
        adapters=adapters,
        slots=slots,
        kv_tokens=250_000,
        offered=offered,
        throughput=offered * share,
        share=share,
        ttft_mean_ms=100.0 * (1 + away),
        tpot_mean_ms=20.0 + 30 * adapters / most + 100 * away,
        itl_mean_ms=22.0 + 30 * adapters / most,
    )
