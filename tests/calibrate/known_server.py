"""Folders of measurements that known servers would have made, with noise or without: what a fit should find again.

They have the form of the published tables (docs/reference/validate.md), so that fits and validation are tested where
those are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from loratwin.calibrate.published.rows import LINEAR
from loratwin.calibrate.published.start import starting_profile
from loratwin.calibrate.published.step_time import KNOWN
from loratwin.kernel import StepFeatures, step_time_s
from loratwin.llms import LlmShapes
from loratwin.perf import Profile
from tests.calibrate.measured import FIGURES, HEADER, LLAMA, Row, measured, row, write_csv
from tests.calibrate.test_published_memory import capacity_rows, loading_row

NOISY = [name for name in FIGURES if name not in ("completed", "output_tokens", "waiting_mean")]
"""Figures that were timed or sampled; requests and tokens were counted."""

START = starting_profile(LLAMA)


def known_server(llm: LlmShapes = LLAMA) -> Profile:
    """Unlike where the fit starts: other step times, memory, loading times and generated tokens."""
    start = starting_profile(llm)
    step_time = start.step_time.model_copy(
        update={name: 1.5 * getattr(start.step_time, name) for name in LINEAR if name not in KNOWN}
    )
    return start.model_copy(
        update={
            "step_time": step_time.model_copy(update={"weights_s": 0.014}),
            "memory": start.memory.model_copy(update={"other_gib": 1.1}),
            "frontend": start.frontend.model_copy(update={"overhead_s": 0.02, "generated_share": 0.9}),
        }
    )


TRUTH = known_server()

Workload = tuple[float, str]
"""Rate of each adapter, and the cycle of ranks."""

WORKLOADS: list[Workload] = [
    (0.02, "8"),
    (0.05, "16"),
    (0.08, "8 16"),
    (0.1, "8 32"),
    (0.15, "8 8 16"),
    (0.2, "8"),
    (0.3, "16"),
]
SERVERS = [(8, 16), (48, 64), (96, 128)]


class Noise:
    """What measuring adds to figures: independent factors, the same ones every time."""

    def __init__(self, spread: float) -> None:
        self._spread, self._rng = spread, np.random.default_rng(7)

    def on(self, row: Row, columns: Sequence[str]) -> Row:
        """The row with these figures disturbed."""
        factors = np.exp(self._spread * self._rng.standard_normal(len(columns)))
        there = [(name, factor) for name, factor in zip(columns, factors, strict=True) if row.get(name)]
        return {**row, **{name: repr(float(row[name]) * float(factor)) for name, factor in there}}


def backbone_rows(truth: Profile) -> list[Row]:
    """Steps of a known kind without adapters, timed by the known server's formula."""
    common = {"model": truth.llm.name, "num_prompts": "4096", "output_tokens": "1", "input_tokens": "1"}
    decode = [
        {**common, "kind": "output", "output_tokens": "200", "mean_running": str(n),
         "step_median_ms": _ms(truth, 0, decode_requests=n, running=n, decode_context=n * 101)}
        for n in (1, 16, 64, 128, 256, 512)
    ]  # fmt: skip
    prompts = [
        {**common, "kind": "input", "input_tokens": str(n), "mean_running": "1",
         "step_median_ms": _ms(truth, 0, prefill_tokens=2048, running=2048 // n, prefill_context=1024 * n)}
        for n in (128, 256, 512)
    ]  # fmt: skip
    return decode + prompts


def overhead_rows(truth: Profile, adapters: Sequence[int] = (1,)) -> list[Row]:
    """The same with so many adapters, all of them in every step, in many slots."""
    return [
        {"model": truth.llm.name, "kind": "lora", "served_adapters": str(n), "max_num_seqs": str(batch),
         "max_loras": "300", "max_lora_rank": "8", "output_tokens": "200",
         "median_itl_ms": _ms(truth, 300, decode_requests=batch, running=batch, distinct_adapters=n,
                              decode_context=batch * 101)}
        for n in adapters for batch in (100, 200)
    ]  # fmt: skip


def _ms(truth: Profile, slots: int, **features: int) -> str:
    step = StepFeatures(**{**dict.fromkeys(StepFeatures._fields, 0), **features})
    return repr(1e3 * step_time_s(truth.step_time.resolve(slots, 8), step))


def serving_rows(folder: Path, workloads: Sequence[Workload] = WORKLOADS, truth: Profile = TRUTH) -> list[Row]:
    """What the known server would measure; the servers of a workload differ in slots and adapters."""
    return [
        measured(folder, row(f"{rate}/{slots}", rate=rate, slots=slots, served=served, adapter_ranks_cycle=ranks,
                             max_lora_rank=max(map(int, ranks.split())), window_s=600, model=truth.llm.name), truth, 1)
        for rate, ranks in workloads for slots, served in SERVERS
    ]  # fmt: skip


LOADS = ((8, 8, 58, 5), (16, 16, 66, 5), (8, 16, 58, 6), (8, 32, 58, 6))
"""Rank, max_lora_rank, ms from disk, ms into a slot."""


def write_tables(folder: Path, workloads: Sequence[Workload] = WORKLOADS) -> Path:
    """A folder of measurements of the known server, without noise."""
    rows = serving_rows(folder, workloads)
    return _write(folder, [TRUTH], (1,), rows[::2], rows[1::2], Noise(0.0))


def write_noisy_tables(folder: Path, truths: Sequence[Profile], workloads: Sequence[Workload], spread: float) -> Path:
    """A folder of measurements of several known servers, of one engine each.

    Parameters
    ----------
    spread
        Standard deviation of the logarithm of every measured figure.
    """
    found = [
        {**values, "run": f"{truth.llm.name} {values['run']}"}
        for truth in truths
        for values in [*serving_rows(folder, workloads, truth), *(_too_many_slots(truth, one) for one in workloads[:2])]
    ]
    return _write(folder, truths, (1, 8, 24), found[::2], found[1::2], Noise(spread))


def _too_many_slots(truth: Profile, workload: Workload) -> Row:
    """A server that runs out of memory: of its workload no more is known than its rates and ranks."""
    rate, ranks = workload
    nothing = {"adapter_rate_values": "", "adapter_rate_counts": "", "prompt_tokens_mean": "", "output_tokens_mean": ""}
    return row(f"{rate}/384", rate=rate, slots=384, served=384, adapter_ranks_cycle=ranks, max_lora_rank=32,
               window_s=600, model=truth.llm.name, outcome="out_of_memory", **nothing)  # fmt: skip


def _write(
    folder: Path,
    truths: Sequence[Profile],
    adapters: Sequence[int],
    first: list[Row],
    second: list[Row],
    noise: Noise,
) -> Path:
    tables = {
        "kv_capacity.csv": [line for truth in truths for line in capacity_rows(truth.llm, truth.memory)],
        "backbone_latency.csv": [noise.on(line, ["step_median_ms"]) for t in truths for line in backbone_rows(t)],
        "adapter_overhead.csv": [
            noise.on(line, ["median_itl_ms"]) for truth in truths for line in overhead_rows(truth, adapters)
        ],
        "adapter_loading.csv": [
            noise.on(loading_row(*load, truth.llm.name), ["disk_load_median_ms", "gpu_load_mean_ms"])
            for truth in truths for load in LOADS
        ],
    }  # fmt: skip
    for name, rows in tables.items():
        write_csv(folder / name, rows)
    write_csv(folder / "serving_validation.csv", [noise.on(line, NOISY) for line in first], HEADER)
    write_csv(folder / "serving_optimum.csv", [noise.on(line, NOISY) for line in second], HEADER)
    return folder
