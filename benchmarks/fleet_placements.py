"""How many servers each way of placing needs for the first hour of Azure's conversation trace.

    python -m benchmarks.fleet_placements FOLDER [most adapters]

FOLDER holds azure_llm_2023_conv.csv (AzureLLMInferenceDataset2023; not in this repository); where it is absent, Poisson
arrivals stand in. The trace has one hour: its first half is stretched to an hour, 24 copies of it (+-5 s). Adapters by
Dirichlet(0.5) or Zipf 1.2, ranks 8, 16, 32 in turn, lengths of ShareGPT. Every method has the twin as judge, the best
slots for each server and the same headroom (20 %). Whether adapters starve in the second hour is not counted yet.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from loratwin.errors import LoratwinError
from loratwin.fleet.comparing import compare_placements
from loratwin.fleet.gpus import Gpus
from loratwin.perf import load_profile
from loratwin.workload import AdapterGroup, Workload, WorkloadSpec, draw
from loratwin.workload.arrays import Adapters
from loratwin.workload.popularity import Zipf

HOUR_S = 3600.0
PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"


def arrivals(folder: Path, copies: int, rng: np.random.Generator) -> np.ndarray:
    """Times of two hours, sorted."""
    path = folder / "azure_llm_2023_conv.csv"
    if path.exists():
        stamps = np.genfromtxt(path, dtype="datetime64[ns]", delimiter=",", skip_header=1, usecols=0)
        times = np.sort((stamps - stamps.min()) / np.timedelta64(1, "s"))
    else:
        times = np.sort(rng.uniform(0, HOUR_S, 19_366))
    times = times / times[-1] * 2 * HOUR_S * (1 - 1e-9)
    moved = np.repeat(times, copies) + rng.uniform(-5, 5, len(times) * copies)
    return np.sort(np.clip(moved, 0, 2 * HOUR_S * (1 - 1e-9)))


def first_hour(folder: Path, number: int, law: str, copies: int) -> Workload:
    """Its requests, and the rates that it had."""
    rng = np.random.Generator(np.random.PCG64(1))
    times = arrivals(folder, copies, rng)
    weights = rng.dirichlet(np.full(number, 0.5)) if law == "dirichlet" else Zipf(exponent=1.2).weights(number)
    adapter = rng.choice(number, len(times), p=weights).astype(np.int32)
    adapter[:number] = rng.permutation(number)  # each is asked for at least once
    lengths = draw(WorkloadSpec(window_s=1.0, groups=(AdapterGroup(name="x", count=1, rate=float(len(times)) * 1.1),)))
    ranks = np.resize(np.array([8, 16, 32], np.int32), number)
    kept = np.flatnonzero(times < HOUR_S)
    rates = np.bincount(adapter[kept], minlength=number) / HOUR_S
    adapters = Adapters(tuple(f"a-{i}" for i in range(number)), ranks, rates, np.zeros(number, np.int32))
    prompt, output = lengths.prompt_tokens[kept], lengths.output_tokens[kept]
    return Workload(times[kept], adapter[kept], prompt, output, adapters, HOUR_S, 0)


def main() -> None:
    """Print a row for each case."""
    folder, most = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1280
    gpus = Gpus(load_profile(PROFILE))
    for law in ("dirichlet", "zipf"):
        for number in (each for each in (8, 32, 96, 384, 1280) if each <= most):
            first = first_hour(folder, number, law, copies=24)
            start = time.monotonic()
            try:
                bound, rows = compare_placements(first, gpus)
            except LoratwinError as error:
                print(f"{law:10} {number:5}  {error}")
                continue
            said = ", ".join(f"{row.name} {row.servers or 'none'}" for row in rows)
            print(f"{law:10} {number:5}  bound {bound.gpus}: {said}  ({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
