"""A folder of measurements that one known server would have made: what the fit should find again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loratwin.calibrate.published.rows import LINEAR
from loratwin.calibrate.published.start import starting_profile
from loratwin.calibrate.published.step_time import KNOWN
from loratwin.kernel import StepFeatures, step_time_s
from loratwin.perf import Profile
from tests.calibrate.measured import HEADER, LLAMA, Row, measured, row, write_csv
from tests.calibrate.test_published_memory import capacities, loading_row

START = starting_profile(LLAMA)


def known_server() -> Profile:
    """Unlike where the fit starts: other step times, memory, loading times and generated tokens."""
    step_time = START.step_time.model_copy(
        update={name: 1.5 * getattr(START.step_time, name) for name in LINEAR if name not in KNOWN}
    )
    return START.model_copy(
        update={
            "step_time": step_time.model_copy(update={"weights_s": 0.014}),
            "memory": START.memory.model_copy(update={"other_gib": 1.1}),
            "frontend": START.frontend.model_copy(update={"overhead_s": 0.02, "generated_share": 0.9}),
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


def micro_tables(folder: Path) -> None:
    """Steps of a known kind, timed by the known server's formula."""

    def ms(slots: int, **features: int) -> str:
        step = StepFeatures(**{**dict.fromkeys(StepFeatures._fields, 0), **features})
        return repr(1e3 * step_time_s(TRUTH.step_time.resolve(slots, 8), step))

    common = {"model": LLAMA.name, "num_prompts": "4096", "output_tokens": "1", "input_tokens": "1"}
    decode = [
        {**common, "kind": "output", "output_tokens": "200", "mean_running": str(n),
         "step_median_ms": ms(0, decode_requests=n, running=n, decode_context=n * 101)}
        for n in (1, 16, 64, 128, 256, 512)
    ]  # fmt: skip
    prompts = [
        {**common, "kind": "input", "input_tokens": str(n), "mean_running": "1",
         "step_median_ms": ms(0, prefill_tokens=2048, running=2048 // n, prefill_context=1024 * n)}
        for n in (128, 256, 512)
    ]  # fmt: skip
    write_csv(folder / "backbone_latency.csv", decode + prompts)
    adapters = [
        {"model": LLAMA.name, "kind": "lora", "served_adapters": "1", "max_num_seqs": str(n), "max_loras": "300",
         "max_lora_rank": "8", "output_tokens": "200",
         "median_itl_ms": ms(300, decode_requests=n, running=n, distinct_adapters=1, decode_context=n * 101)}
        for n in (100, 200)
    ]  # fmt: skip
    write_csv(folder / "adapter_overhead.csv", adapters)


def serving_rows(folder: Path, workloads: Sequence[Workload] = WORKLOADS) -> list[Row]:
    """What the known server would measure; the servers of a workload differ in slots and adapters."""
    return [
        measured(folder, row(f"{rate}/{slots}", rate=rate, slots=slots, served=served, adapter_ranks_cycle=ranks,
                             max_lora_rank=max(map(int, ranks.split())), window_s=600), TRUTH, seed=1)
        for rate, ranks in workloads for slots, served in SERVERS
    ]  # fmt: skip


def write_tables(folder: Path, workloads: Sequence[Workload] = WORKLOADS) -> Path:
    """A folder of measurements of the known server."""
    capacities(folder, TRUTH.memory)
    micro_tables(folder)
    write_csv(
        folder / "adapter_loading.csv",
        [loading_row(8, 8, 58, 5), loading_row(16, 16, 66, 5), loading_row(8, 16, 58, 6), loading_row(8, 32, 58, 6)],
    )
    rows = serving_rows(folder, workloads)
    write_csv(folder / "serving_validation.csv", rows[::2], HEADER)
    write_csv(folder / "serving_optimum.csv", rows[1::2], HEADER)
    return folder
