"""What surrounds the kernel, as parts of its time: the record and its summary, an hour's prediction, a whole plan.

Ratios, taken in one process: others on the machine slow both parts alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hours import BUSY, PROFILE
from benchmarks.test_speed import kernel_arguments
from loratwin.calibrate.published.serving import read_serving
from loratwin.kernel import run_engine
from loratwin.metrics import summarize
from loratwin.plan.plan import plan
from loratwin.simulate import engine, simulate
from loratwin.validate import predict_all
from loratwin.workload import AdapterGroup, ShareGpt, WorkloadSpec

VALIDATION = Path(__file__).parents[2] / "shared/data/serving_validation.csv"

CUSTOMERS = WorkloadSpec(
    window_s=3600.0,
    groups=(
        AdapterGroup(name="busy", count=24, total_rate=5.0, ranks=16),
        AdapterGroup(name="tail", count=360, total_rate=3.0, popularity="zipf", ranks=(8, 16)),
    ),
    lengths=ShareGpt(prompt_mean=250, output_mean=200),
)
"""A platform's 384 adapters: some busy customers and many that seldom ask."""


def processor_s(function: Callable[[], Any]) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


class KernelTime:
    """Processor seconds that the kernel takes of what runs meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spent_s = 0.0
        self.calls = 0
        monkeypatch.setattr(engine, "run_engine", self._run)

    def _run(self, *arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return run_engine(*arguments, **options)
        finally:
            self.spent_s += time.process_time() - start
            self.calls += 1


def test_summary_over_kernel() -> None:
    """Target: 1.4; caches shared with others cost the summary more than the kernel."""
    workload, arguments = BUSY.draw(), kernel_arguments(BUSY)
    summarize(simulate(workload, PROFILE, BUSY.config))
    both = [
        (
            processor_s(lambda: run_engine(*arguments)),
            processor_s(lambda: summarize(simulate(workload, PROFILE, BUSY.config))),
        )
        for _ in range(60)
    ]
    kernel_s, whole_s = map(min, zip(*both, strict=True))
    print(f"\nsimulate() with its summary over its kernel: {whole_s / kernel_s:.2f}")
    assert whole_s / kernel_s < 2.0


@pytest.mark.skipif(not VALIDATION.exists(), reason="needs the measured tables in ../shared/data")
def test_validation_hours_over_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workloads and observation included."""
    runs = read_serving(VALIDATION)
    predict_all(runs[:1])
    kernel = KernelTime(monkeypatch)
    whole_s = processor_s(lambda: predict_all(runs))
    print(f"\n{len(runs)} validation hours: {whole_s:.1f} s of processor time, {whole_s / kernel.spent_s:.2f} kernels")
    assert kernel.calls > len(runs) / 2


def test_plan_over_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """384 adapters, an SLO asked of each, headroom; one process."""
    kernel = KernelTime(monkeypatch)
    whole_s = processor_s(
        lambda: plan(CUSTOMERS, PROFILE, slo="ttft_p99=2s,tpot_p99=100ms", slo_for="adapters", headroom=0.3)
    )
    print(f"\nplan for 384 adapters: {whole_s:.1f} s of processor time, {whole_s / kernel.spent_s:.2f} kernels")
    assert kernel.calls > 50
