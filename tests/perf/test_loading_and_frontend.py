"""Loading adapters; and what lies between the engine and the client."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loratwin.perf import Domain, Frontend, LoadingModel
from loratwin.records import EngineConfig

FRONTEND = Frontend(
    overhead_s=0.005, first_use_s=0.3, scrape_interval_s=1.0, series_s=1e-5, series_name_s=1e-6, stall_ttft=2.0,
    generated_share=1.0,
)  # fmt: skip


def test_an_adapter_below_the_slots_rank_needs_a_staging_copy() -> None:
    model = LoadingModel(swap_in_s=0.006, swap_in_padded_s=0.008, disk_load_s=0.05, disk_load_per_rank_s=0.002)
    costs = model.costs(np.array([8, 16, 32], np.int32), max_lora_rank=16)
    np.testing.assert_allclose(costs.swap_in_s, [0.008, 0.006, 0.006])
    np.testing.assert_allclose(costs.disk_load_s, [0.066, 0.082, 0.114])
    assert costs.swap_in_s.dtype == costs.disk_load_s.dtype == np.float64


def test_no_adapters_cost_nothing() -> None:
    model = LoadingModel(swap_in_s=1, swap_in_padded_s=1, disk_load_s=1, disk_load_per_rank_s=1)
    assert [len(column) for column in model.costs(np.zeros(0, np.int32), 16)] == [0, 0]


def test_a_scrape_stops_the_loop_for_its_series_and_names() -> None:
    stall = FRONTEND.stall_s(np.array([0.0, 1000.0]), np.array([0.0, 5000.0]))
    np.testing.assert_allclose(stall, [0.0, 0.015])


def test_tokens_of_a_stall_arrive_as_one() -> None:
    """A stall of 0.5 s every second swallows 0.48 s of 20 ms gaps: 26 deliveries are left of 50."""
    assert FRONTEND.delivery_gap_s(0.02, np.array([0.5])) == pytest.approx(1 / 26)
    assert FRONTEND.delivery_gap_s(0.02, np.array([0.01])) == 0.02


def test_the_gap_stays_bounded_however_long_the_stalls() -> None:
    assert FRONTEND.delivery_gap_s(0.02, np.array([30.0])) == pytest.approx(0.1)


def test_first_tokens_wait_for_the_square_of_the_stall() -> None:
    assert FRONTEND.extra_ttft_s(np.array([0.1, 0.3])) == pytest.approx(2.0 * 0.05)


DOMAIN = Domain(
    max_loras=(8, 384), max_lora_rank=(8, 32), max_num_seqs=(256, 2048), max_num_batched_tokens=(2048, 2048),
    gpu_memory_utilization=(0.9, 0.9), served_adapters=(8, 384), prompt_tokens_mean=(150, 300),
    output_tokens_mean=(150, 300),
)  # fmt: skip


def departures(served: int = 100, prompt: float = 200.0, output: float = 200.0, **changes: object) -> tuple[str, ...]:
    values: dict[str, Any] = {"max_loras": 8, "max_num_seqs": 2048, **changes}
    config = EngineConfig(**values)
    return DOMAIN.departures(config, served, prompt, output)


def test_inside_the_domain_nothing_is_said() -> None:
    assert departures() == ()
    assert departures(max_loras=384, served=384, prompt=300.0, output=150.0) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_loras": 7}, "max_loras = 7, measured 8 to 384"),
        ({"max_lora_rank": 64}, "max_lora_rank = 64, measured 8 to 32"),
        ({"max_num_seqs": 128}, "max_num_seqs = 128, measured 256 to 2048"),
        ({"max_num_batched_tokens": 4096}, "max_num_batched_tokens = 4096, measured 2048 to 2048"),
        ({"gpu_memory_utilization": 0.95}, "gpu_memory_utilization = 0.95, measured 0.9 to 0.9"),
        ({"served": 385}, "served_adapters = 385, measured 8 to 384"),
        ({"prompt": 301.0}, "prompt_tokens_mean = 301, measured 150 to 300"),
        ({"output": 149.5}, "output_tokens_mean = 149.5, measured 150 to 300"),
    ],
)
def test_beyond_the_domain_each_departure_is_one_line(changes: dict[str, float], said: str) -> None:
    assert departures(**changes) == (f"outside the profile's domain: {said}",)  # type: ignore[arg-type]


def test_without_lora_its_ranges_do_not_matter() -> None:
    assert departures(max_loras=0, served=0) == ()


def test_no_requests_are_not_outside() -> None:
    assert departures(prompt=float("nan"), output=float("nan")) == ()
