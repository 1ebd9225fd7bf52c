"""How long the twin takes. Targets are those of the project, in seconds, for the fastest round."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.hours import BUSY, MINUTE, OVERLOAD, PROFILE, ROOMY, SHARED, SHARED_OVERLOAD, Hour
from loratwin.kernel import AdapterCosts, EngineLimits, Requests, StepCost, run_engine, step_time_s
from loratwin.metrics import summarize
from loratwin.simulate import engine, simulate
from tests.reference.engine import run_reference

KernelArguments = tuple[Requests, EngineLimits, AdapterCosts, int, StepCost]


class _Caught(Exception):
    pass


def kernel_arguments(hour: Hour) -> KernelArguments:
    """What `simulate` gives to the kernel."""
    caught: list[KernelArguments] = []

    def catch(*arguments: Any) -> None:
        caught.append(arguments)
        raise _Caught

    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Caught):
        patch.setattr(engine, "run_engine", catch)
        simulate(hour.draw(), PROFILE, hour.config)
    return caught[0]


def fastest_s(benchmark: Any) -> float:
    """Seconds of the fastest round."""
    return float(benchmark.stats.stats.min)


@pytest.mark.parametrize(
    ("hour", "target_s"),
    [(BUSY, 0.030), (ROOMY, 0.030), (OVERLOAD, 0.400), (SHARED, 0.200), (SHARED_OVERLOAD, 0.400)],
    ids=["busy", "roomy", "overload", "shared", "shared-overload"],
)
def test_kernel(benchmark: Any, hour: Hour, target_s: float) -> None:
    benchmark.group = "kernel, one hour"
    arguments = kernel_arguments(hour)
    benchmark.pedantic(run_engine, arguments, rounds=15, warmup_rounds=2)
    assert fastest_s(benchmark) < target_s


@pytest.mark.parametrize(("hour", "target_s"), [(BUSY, 0.040), (OVERLOAD, 0.500)], ids=["busy", "overload"])
def test_simulate_and_summarize(benchmark: Any, hour: Hour, target_s: float) -> None:
    benchmark.group = "simulate and summarize without percentiles, one hour"
    workload = hour.draw()
    benchmark.pedantic(
        lambda: summarize(simulate(workload, PROFILE, hour.config), percentiles=False), rounds=15, warmup_rounds=2
    )
    assert fastest_s(benchmark) < target_s


@pytest.mark.parametrize("hour", [BUSY, OVERLOAD], ids=["busy", "overload"])
def test_summarize(benchmark: Any, hour: Hour) -> None:
    benchmark.group = "summarize with percentiles, one hour"
    run = simulate(hour.draw(), PROFILE, hour.config)
    benchmark.pedantic(summarize, (run,), rounds=15, warmup_rounds=2)


@pytest.mark.parametrize(("hour", "target_s"), [(BUSY, 0.020), (OVERLOAD, 0.150)], ids=["busy", "overload"])
def test_draw(benchmark: Any, hour: Hour, target_s: float) -> None:
    benchmark.group = "draw, one hour"
    benchmark.pedantic(hour.draw, rounds=15, warmup_rounds=1)
    assert fastest_s(benchmark) < target_s


FASTEST_S: dict[str, float] = {}


@pytest.mark.parametrize("which", ["kernel", "reference"])
def test_one_minute_by_kernel_and_reference(benchmark: Any, which: str) -> None:
    benchmark.group = "one minute of the busy hour"
    requests, limits, costs, num_adapters, step_cost = arguments = kernel_arguments(MINUTE)
    if which == "kernel":
        benchmark.pedantic(run_engine, arguments, rounds=100, warmup_rounds=2)
    else:
        step_time = lambda features: step_time_s(step_cost, features)  # noqa: E731
        benchmark.pedantic(run_reference, (requests, limits, costs, num_adapters, step_time, False), rounds=3)
    FASTEST_S[which] = fastest_s(benchmark)


def test_the_kernel_is_much_faster_than_the_reference() -> None:
    if len(FASTEST_S) < 2:
        pytest.skip("needs the two benchmarks before it")
    ratio = FASTEST_S["reference"] / FASTEST_S["kernel"]
    print(f"\nreference / kernel: {ratio:.0f}")
    assert ratio > 100
