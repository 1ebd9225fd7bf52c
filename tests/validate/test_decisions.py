"""AdviceScore on a grid: what is asked, what is answered, and what is worth nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from loratwin.calibrate.published.serving import CONFIGURATION, ServingRun
from loratwin.errors import DataError
from loratwin.validate import Decision, Prediction, decide_all, decisions_csv
from loratwin.validate.decisions import Point, best, decide, fill_workloads, predicted_point
from tests.calibrate.measured import LLAMA, QWEN, Row, by_hand, row, serving_runs

UNKNOWN = {"adapter_rate_values": "", "adapter_rate_counts": "", "prompt_tokens_mean": "", "output_tokens_mean": ""}
WORKLOAD = (LLAMA.name, "0.1", "8 16")


def throughput(point: Point) -> float:
    return point.throughput


def point(served: int, slots: int, thr: float = 100.0, latency: float = 1000.0, chance: float = 1.0) -> Point:
    return Point(served, slots, thr, latency, chance)


# --- workloads of servers that did not start


def test_missing_counts_share_the_rates_equally(tmp_path: Path) -> None:
    rates = {"rates": "0.4 0.2 0.1", "adapter_ranks_cycle": "8"}
    known = {**rates, "adapter_rate_values": "0.1 0.2 0.4"}
    rows = [
        row("x", served=32, **{**rates, **UNKNOWN}),
        row("a", served=8, **known, adapter_rate_counts="2 3 3", prompt_tokens_mean=200, output_tokens_mean=100),
        row("b", served=9, **known, adapter_rate_counts="3 3 3", prompt_tokens_mean=220, output_tokens_mean=140),
        row("other rate", rate=0.7, prompt_tokens_mean=900),
        row("other model", **known, adapter_rate_counts="2 3 3", model=QWEN.name, prompt_tokens_mean=900),
    ]
    found = fill_workloads(serving_runs(tmp_path, *rows))
    assert [run.name for run in found] == ["x", "a", "b", "other rate", "other model"]
    assert dict(zip(found[0].rate_values, found[0].rate_counts, strict=True)) == {0.4: 11, 0.2: 11, 0.1: 10}
    assert (found[0].prompt_tokens_mean, found[0].output_tokens_mean) == (210, 120)
    assert found[1:] == serving_runs(tmp_path, *rows)[1:]


def test_a_workload_of_which_nothing_started_has_the_lengths_of_the_others(tmp_path: Path) -> None:
    rows = [row("x", **{**UNKNOWN, "rates": "0.4"}), row("y", rate=0.7, prompt_tokens_mean=300, output_tokens_mean=90)]
    found = fill_workloads(serving_runs(tmp_path, *rows))[0]
    assert (found.rate_values, found.prompt_tokens_mean, found.output_tokens_mean) == ((0.4,), 300, 90)


def test_an_llm_without_any_lengths_is_one_clear_line(tmp_path: Path) -> None:
    expected = "^run 'x': neither its row nor others of its LLM have rates and lengths$"
    with pytest.raises(DataError, match=expected):
        fill_workloads(serving_runs(tmp_path, row("x", **UNKNOWN), row("y", rate=0.7, model=QWEN.name)))


# --- points


@pytest.fixture
def run(tmp_path: Path) -> ServingRun:
    return serving_runs(tmp_path, row(rate=0.1, slots=16, served=32))[0]  # 3.2 requests/s of 420 tokens


def prediction(share: float, ttft_ms: float = 100.0, tpot_ms: float = 20.0) -> Prediction:
    return Prediction("run", total_throughput=3.2 * 420 * share, ttft_mean_ms=ttft_ms, tpot_mean_ms=tpot_ms, starts=1)


def test_rates_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    rows = [row("x", **{**UNKNOWN, "rates": "0.4, fast"}), row("y")]
    with pytest.raises(DataError, match="^run 'x': rates '0.4, fast' are no numbers with spaces between them$"):
        fill_workloads(serving_runs(tmp_path, *rows))


def test_a_point_is_what_was_predicted(run: ServingRun) -> None:
    found = predicted_point(run, prediction(1.0), prediction(1.0, ttft_ms=300, tpot_ms=30))
    assert (found.served_adapters, found.max_loras, found.throughput) == (32, 16, pytest.approx(3.2 * 420))
    assert found.latency_ms == pytest.approx((100 + 20 * 199 + 300 + 30 * 199) / 2)
    assert found.chance_good > 0.999


@pytest.mark.parametrize(("share", "chance"), [(0.9, 0.5), (0.915, 0.841), (0.885, 0.159), (0.8, 0.0)])
def test_the_chance_that_it_does_not_starve(run: ServingRun, share: float, chance: float) -> None:
    assert predicted_point(run, prediction(share), prediction(share)).chance_good == pytest.approx(chance, abs=0.001)


def test_a_server_that_does_not_start_is_never_good(run: ServingRun) -> None:
    dead = Prediction("run")
    assert predicted_point(run, dead, dead) == Point(32, 16, 0.0, math.inf, 0.0)


# --- the best of them


def test_the_highest_expected_value_is_best() -> None:
    assert best([point(8, 8, 90), point(16, 8, 100), point(16, 16, 95)], throughput) == point(16, 8, 100)
    risky, safe = point(16, 8, 100, chance=0.8), point(8, 8, 90, chance=1.0)
    assert best([risky, safe], throughput) == safe


def test_what_likely_starves_is_no_answer() -> None:
    assert best([point(8, 8, 1000, chance=0.49), point(8, 16, 1, chance=0.5)], throughput) == point(
        8, 16, 1, chance=0.5
    )
    assert best([point(8, 8, 1000, chance=0.49)], throughput) is None
    assert best([], throughput) is None


GRID = [point(16, 8, 100, 3000), point(16, 16, 90, 1000), point(32, 8, 150, 9000), point(32, 16, 160, 9500, chance=0.1)]


def test_every_question_is_answered() -> None:
    found = {(d.question, d.served_adapters): d.point for d in decide(GRID, WORKLOAD)}
    assert found == {
        ("joint", 32): GRID[2],
        ("slots", 16): GRID[0],
        ("slots", 32): GRID[2],
        ("latency", 16): GRID[1],
        ("latency", 32): GRID[2],
    }


def test_nothing_works() -> None:
    decisions = decide([replace(p, chance_good=0.2) for p in GRID], WORKLOAD)
    assert [d.question for d in decisions] == ["joint", "slots", "slots", "latency", "latency"]
    assert all(d.point is None for d in decisions)


def test_the_file() -> None:
    decisions = [Decision(WORKLOAD, "joint", 32, GRID[2]), Decision(WORKLOAD, "slots", 16, None)]
    assert decisions_csv(decisions) == (
        "model,rates,adapter_ranks_cycle,question,served_adapters,max_loras\n"
        f"{LLAMA.name},0.1,8 16,joint,32,8\n"
        f"{LLAMA.name},0.1,8 16,slots,16,\n"
    )


# --- a whole grid


def grid(**changes: str) -> list[Row]:
    """Two workloads; the second is far too much for any server. The largest servers do not start."""
    points = [(8, 16), (32, 16), (8, 48), (32, 48)]
    rows = [row(f"l{s}/{n}", rate=0.05, slots=s, served=n, **changes) for s, n in points]
    rows += [row(f"h{s}/{n}", rate=9, slots=s, served=n, **changes) for s, n in points]
    return [*rows, row("dead", rate=0.05, slots=384, served=48, **{**changes, **UNKNOWN, "max_lora_rank": "32"})]


def answers(text: str) -> dict[tuple[str, str, str], str]:
    lines = [line.split(",") for line in text.splitlines()[1:]]
    return {(rates, question, served): slots for _, rates, _, question, served, slots in lines}


def test_a_grid_is_answered(tmp_path: Path) -> None:
    found = answers(decisions_csv(decide_all(serving_runs(tmp_path, *grid(window_s="300")))))
    assert len(found) == 2 * (1 + 2 + 2)
    light = {key: slots for key, slots in found.items() if key[0] == "0.05"}
    assert set(light.values()) <= {"8", "32"}
    assert ("0.05", "joint", "48") in light
    assert {slots for key, slots in found.items() if key[0] == "9"} == {""}


def test_nothing_measured_is_read(tmp_path: Path) -> None:
    rows = grid()
    kept = {*CONFIGURATION, "window_s", "rates"}
    variants = (
        [by_hand(r, 1234.5, kv_tokens=99999, tpot_mean_ms=50, ttft_mean_ms=1) for r in rows],
        [by_hand({**r, "outcome": "error"}, 1.0, kv_tokens=5) for r in rows],
        [{c: v for c, v in r.items() if c in kept} for r in rows],
    )
    texts = [decisions_csv(decide_all(serving_runs(tmp_path, *variant))) for variant in variants]
    assert texts[0] == texts[1] == texts[2]


def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    runs = serving_runs(tmp_path, *grid())
    assert decide_all(runs) == decide_all(runs, processes=2)


def test_advice_keeps_room_for_a_slower_server(tmp_path: Path) -> None:
    """The latency of a point is also that of a server slower than predicted: more than the twin says alone."""
    runs = serving_runs(tmp_path, *grid(window_s="300"))
    from loratwin.validate import predict

    decisions = [d for d in decide_all(runs) if d.question == "latency" and d.workload[1] == "0.05"]
    assert decisions
    for d in decisions:
        assert d.point is not None
        p = predict(next(r for r in runs if (r.served_adapters, r.max_loras, r.rates) ==
                         (d.served_adapters, d.point.max_loras, "0.05")))  # fmt: skip
        assert d.point.latency_ms > 1.005 * (p.ttft_mean_ms + p.tpot_mean_ms * 199)
