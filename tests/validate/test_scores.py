"""Errors, verdicts and regrets against numbers by hand, and against the tools that judge us."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loratwin.calibrate.published.serving import ServingRun
from loratwin.validate import Decision, Prediction, decisions_csv, predictions_csv
from loratwin.validate.decisions import Point
from loratwin.validate.scores import (
    METRICS,
    Verdicts,
    kv_errors,
    regime,
    relative_error,
    score,
    score_advice,
    start_verdicts,
    starved_verdicts,
)
from tests.calibrate.measured import HEADER, LLAMA, QWEN, TOOLS, Row, by_hand, needs_tools, row, serving_runs, write_csv

OFFERED = 0.1 * 32 * 420
"""Tokens/s that `row` asks for."""


def predicted(run: str, total: float = math.nan, **figures: Any) -> Prediction:
    return Prediction(run, total_throughput=total, **{"starts": 1, **figures})


def three(folder: Path) -> tuple[list[ServingRun], list[Prediction]]:
    """Throughputs +10 %, -20 % and not predicted; two open, one saturated; and one that was never measured."""
    runs = serving_runs(
        folder,
        by_hand(row("a"), 1000, tpot_mean_ms=20.0),
        by_hand(row("b", model=QWEN.name), 1000, tpot_mean_ms=20.0, waiting_mean=20.5),
        by_hand(row("c"), 500, waiting_mean=20.0),
        row("d", outcome="out_of_memory"),
    )
    values = [predicted("a", 1100, tpot_mean_ms=21.0), predicted("b", 800, tpot_mean_ms=19.0)]
    return runs, [*values, predicted("c", starts=0), predicted("d", 7)]


def test_scores_by_hand(tmp_path: Path) -> None:
    found = {(s.metric, s.regime): s for s in score(*three(tmp_path))}
    every = found["total_throughput", "all"]
    assert every.runs == 3
    assert every.mape == pytest.approx((10 + 20 + 100) / 3)
    assert every.median_ape == pytest.approx(20)
    assert every.p90_ape == pytest.approx(20 + 0.8 * 80)
    assert every.bias == pytest.approx((10 - 20 - 100) / 3)
    assert found["total_throughput", "open"].mape == pytest.approx(55)
    assert found["total_throughput", "saturated"].bias == pytest.approx(-20)
    assert found["total_throughput", LLAMA.name].runs == 2
    assert found["total_throughput", QWEN.name].mape == pytest.approx(20)
    assert found["tpot_mean_ms", "all"].runs == 2  # c has no measured TPOT
    assert found["tpot_mean_ms", "all"].bias == pytest.approx(0)


def test_a_metric_that_nobody_measured_has_no_score(tmp_path: Path) -> None:
    [found] = [s for s in score(*three(tmp_path), ("ttft_mean_ms",)) if s.regime == "all"]
    assert found.runs == 0
    assert math.isnan(found.mape)


def test_the_regime_is_told_by_the_queue(tmp_path: Path) -> None:
    assert [regime(run) for run in three(tmp_path)[0]] == ["open", "saturated", "open", "open"]


def test_relative_errors(tmp_path: Path) -> None:
    runs, predictions = three(tmp_path)
    errors = [relative_error(r, p, "total_throughput") for r, p in zip(runs, predictions, strict=True)]
    assert errors[:3] == pytest.approx([0.1, -0.2, -1.0])
    assert math.isnan(errors[3])


def test_starved_verdicts(tmp_path: Path) -> None:
    """Starved is at most 90 % of what was offered."""
    offered = 0.5 * 16 * 420
    measured = {"yes-yes": (0.89, 1), "yes-no": (0.9, 0), "no-yes": (0.901, 1), "no-no": (1.0, 0), "no-no2": (0.95, 0)}
    runs = serving_runs(
        tmp_path, *(by_hand(row(n, rate=0.5, served=16), s * offered) for n, (s, _) in measured.items()), row("not run")
    )
    predictions = [predicted(n, starved=p) for n, (_, p) in measured.items()] + [predicted("not run", starved=1)]
    assert starved_verdicts(runs, predictions) == Verdicts(both_yes=1, both_no=2, missed=1, false_alarm=1)


def test_start_verdicts(tmp_path: Path) -> None:
    cases = [("ok", 1), ("ok", 1), ("ok", 0), ("out_of_memory", 0), ("out_of_memory", 1), ("error", 0), ("error", 1)]
    runs = serving_runs(tmp_path, *(row(f"{i}", outcome=outcome) for i, (outcome, _) in enumerate(cases)))
    predictions = [predicted(f"{i}", starts=starts) for i, (_, starts) in enumerate(cases)]
    assert start_verdicts(runs, predictions) == Verdicts(both_yes=2, both_no=1, missed=1, false_alarm=1)


def test_kv_errors(tmp_path: Path) -> None:
    runs = serving_runs(tmp_path, row("a", kv_tokens=1000), row("b", kv_tokens=""), row("c", kv_tokens=2000))
    predictions = [predicted("a", kv_tokens=990), predicted("b", kv_tokens=5), predicted("c", kv_tokens=2010)]
    assert kv_errors(runs, predictions) == pytest.approx([0.01, 0.005])


# --- advice

WORKLOAD = (LLAMA.name, "0.1", "8 16")


def graded(name: str, slots: int, served: int, share: float, ttft_ms: float, **changes: Any) -> Row:
    """A measured point that finished this share of its offered tokens."""
    total = 0.1 * served * 420 * share
    return by_hand(row(name, slots=slots, served=served, **changes), total, ttft_mean_ms=ttft_ms, tpot_mean_ms=10.0)


def grid(folder: Path) -> list[ServingRun]:
    return serving_runs(
        folder,
        graded("16/8", 8, 16, 0.95, 1010.0),
        graded("16/16", 16, 16, 1.0, 10.0),
        graded("32/8", 8, 32, 0.6, 9000.0),
        graded("32/16", 16, 32, 0.98, 100.0),
        graded("64/8", 8, 64, 0.5, 9000.0),
        row("64/16", slots=16, served=64, outcome="out_of_memory"),
        row("64/32", slots=32, served=64, outcome="error"),
        row("16/32", slots=32, served=16, outcome="error"),
    )


def advise(question: str, served: int, slots: int | None) -> Decision:
    return Decision(WORKLOAD, question, served, None if slots is None else Point(served, slots, 1.0, 1.0, 1.0))


def test_regret_by_hand(tmp_path: Path) -> None:
    decisions = [
        advise("joint", 16, 16),  # good, but 32/16 is better
        advise("slots", 16, 8),  # 5 % less than with 16 slots
        advise("slots", 32, 8),  # starves though 16 slots work
        advise("slots", 64, None),  # right: nothing works
        advise("latency", 16, 8),  # 1010 + 1990 against 10 + 1990
        advise("latency", 32, None),  # wrong: 16 slots work
        advise("latency", 64, 8),  # wrong: nothing works
    ]
    joint, slots, latency = score_advice(grid(tmp_path), decisions)
    best_joint = 0.1 * 32 * 420 * 0.98
    assert joint.mean_regret == pytest.approx(100 * (1 - 0.1 * 16 * 420 / best_joint))
    assert (joint.question, joint.cases, joint.bad, joint.wrong_none, joint.right_none) == ("joint", 1, 0, 0, 0)
    assert slots.mean_regret == pytest.approx((5 + 100) / 2)
    assert (slots.cases, slots.bad, slots.wrong_none, slots.right_none) == (3, 1, 0, 1)
    assert latency.mean_regret == pytest.approx((100 / 3 + 100) / 2)
    assert (latency.cases, latency.bad, latency.wrong_none, latency.right_none) == (3, 0, 2, 0)


def test_advice_that_lands_on_a_failed_run_is_not_scored(tmp_path: Path) -> None:
    _, slots, _ = score_advice(grid(tmp_path), [advise("slots", 16, 32), advise("slots", 32, 16)])
    assert (slots.cases, slots.mean_regret, slots.bad) == (2, pytest.approx(0), 0)


def test_advice_off_the_grid_is_bad(tmp_path: Path) -> None:
    _, slots, _ = score_advice(grid(tmp_path), [advise("slots", 32, 256)])
    assert (slots.bad, slots.mean_regret) == (1, 100)


def test_without_decisions_there_is_no_regret(tmp_path: Path) -> None:
    assert all(a.cases == 0 and math.isnan(a.mean_regret) for a in score_advice(grid(tmp_path), []))


# --- against the tools


def tool(name: str, *paths: Path) -> dict[str, Any]:
    command = [sys.executable, str(TOOLS / name), *map(str, paths), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def random_runs(folder: Path, number: int = 60) -> tuple[Path, list[ServingRun], list[Prediction]]:
    rng = random.Random(4)
    rows, predictions = [], []
    for i in range(number):
        outcome = rng.choice(["ok"] * 8 + ["error", "out_of_memory"])
        values = row(f"r{i}", model=rng.choice([LLAMA.name, QWEN.name]), outcome=outcome, kv_tokens=100_000 + i)
        figures = {m: rng.uniform(10, 100) for m in METRICS if m != "total_throughput"}
        total = OFFERED * rng.uniform(0.8, 1.05)
        if outcome == "ok":
            values = by_hand(values, total, waiting_mean=rng.choice([0.0, 20.0, 500.0]), **figures)
        rows.append(values)
        guesses: dict[str, Any] = {m: v * rng.uniform(0.7, 1.4) for m, v in figures.items()}
        yes: dict[str, Any] = {
            "starts": int(rng.random() < 0.9),
            "starved": int(rng.random() < 0.5),
            "kv_tokens": 100_500,
        }
        predictions.append(Prediction(f"r{i}", total_throughput=total * rng.uniform(0.9, 1.2), **guesses, **yes))
    path = write_csv(folder / "measured.csv", rows, HEADER)
    return path, serving_runs(folder, *rows), predictions


@needs_tools
def test_scores_are_those_of_score_runs(tmp_path: Path) -> None:
    path, runs, predictions = random_runs(tmp_path)
    (tmp_path / "predicted.csv").write_text(predictions_csv(predictions))
    expected = tool("score_runs.py", path, tmp_path / "predicted.csv")
    ours = {f"{s.regime}/{s.metric}": s for s in score(runs, predictions)}
    assert ours.keys() == expected.keys() - {"kv_tokens", "starts", "starved"}
    for key, theirs in expected.items():
        if key in ours:
            mine = ours[key]
            assert (mine.runs, mine.mape, mine.median_ape, mine.bias) == (
                theirs["n"],
                pytest.approx(theirs["mape"], abs=0.01),
                pytest.approx(theirs["median_ape"], abs=0.01),
                pytest.approx(theirs["bias"], abs=0.01),
            ), key
    errors = kv_errors(runs, predictions)
    assert len(errors) == expected["kv_tokens"]["n"]
    assert 100 * max(errors) == pytest.approx(expected["kv_tokens"]["max_ape"], abs=0.01)
    starts, starved = start_verdicts(runs, predictions), starved_verdicts(runs, predictions)
    assert expected["starts"] == {
        "both_start": starts.both_yes,
        "both_fail": starts.both_no,
        "wrong_says_starts": starts.false_alarm,
        "wrong_says_fails": starts.missed,
    }
    assert expected["starved"] == {
        "starved_found": starved.both_yes,
        "starved_missed": starved.missed,
        "false_alarm": starved.false_alarm,
        "fine_found": starved.both_no,
    }
    assert min(expected["starts"].values()) > 0 and min(expected["starved"].values()) > 0


@needs_tools
def test_a_missing_prediction_counts_fully_in_both(tmp_path: Path) -> None:
    path, runs, predictions = random_runs(tmp_path)
    missing = [replace(p, total_throughput=math.nan) if i % 5 == 0 else p for i, p in enumerate(predictions)]
    (tmp_path / "predicted.csv").write_text(predictions_csv(missing))
    expected = tool("score_runs.py", path, tmp_path / "predicted.csv")["all/total_throughput"]
    [mine] = [s for s in score(runs, missing, ("total_throughput",)) if s.regime == "all"]
    assert mine.mape == pytest.approx(expected["mape"], abs=0.01)
    assert mine.mape > 15


def random_grid(folder: Path) -> tuple[Path, list[ServingRun]]:
    rng = random.Random(5)
    rows = []
    for workload, ranks in (("0.1", "8 16"), ("0.2", "8"), ("0.4", "8")):
        rate = {"rates": workload, "adapter_rate_values": workload, "adapter_ranks_cycle": ranks}
        for served in (16, 32, 64):
            for slots in (8, 16, 32):
                share, outcome = rng.uniform(0.7, 1.05), rng.choice(["ok"] * 5 + ["error", "out_of_memory"])
                name = f"{workload}/{served}/{slots}"
                total = share * float(workload) * served * 420
                figures = {"ttft_mean_ms": rng.uniform(50, 5000), "tpot_mean_ms": rng.uniform(10, 60)}
                values = row(name, slots=slots, served=served, outcome=outcome, **rate)
                rows.append(by_hand(values, total, **figures) if outcome == "ok" else values)
    return write_csv(folder / "grid.csv", rows, HEADER), serving_runs(folder, *rows)


@needs_tools
@pytest.mark.parametrize("seed", range(4))
def test_regrets_are_those_of_score_decisions(seed: int, tmp_path: Path) -> None:
    """Random advice, good and bad, on the grid and off it."""
    path, runs = random_grid(tmp_path)
    rng = random.Random(seed)

    def random_point(served: int) -> Point | None:
        return rng.choice([None, *(Point(served, slots, 1.0, 1.0, 1.0) for slots in (8, 16, 32, 128))])

    decisions = []
    for workload in dict.fromkeys((r.model, r.rates, r.row["adapter_ranks_cycle"]) for r in runs):
        served = rng.choice([16, 32, 64])
        decisions.append(Decision(workload, "joint", served, random_point(served)))
        for question in ("slots", "latency"):
            decisions += [Decision(workload, question, served, random_point(served)) for served in (16, 32, 64)]
    (tmp_path / "decisions.csv").write_text(decisions_csv(decisions))
    expected = tool("score_decisions.py", path, tmp_path / "decisions.csv")
    for mine in score_advice(runs, decisions):
        theirs = expected[mine.question]
        assert mine.cases == theirs["cases"]
        assert mine.mean_regret == pytest.approx(theirs["mean_regret_pct"], abs=0.01)
        bad = theirs["advised_and_starved"] + theirs["advised_and_did_not_start"] + theirs["off_grid"]
        assert mine.bad == bad
        assert mine.wrong_none == theirs["no_answer_or_wrong_empty"]
        assert mine.right_none == theirs["right_that_none_works"]


@needs_tools
def test_a_case_whose_runs_all_failed_for_their_own_reason_is_no_case(tmp_path: Path) -> None:
    rows = [graded("16/8", 8, 16, 1.0, 10.0), row("32/8", slots=8, served=32, outcome="error")]
    path, runs = write_csv(tmp_path / "grid.csv", rows, HEADER), serving_runs(tmp_path, *rows)
    decisions = [advise("slots", 16, 8), advise("slots", 32, 8)]
    (tmp_path / "decisions.csv").write_text(decisions_csv(decisions))
    theirs = tool("score_decisions.py", path, tmp_path / "decisions.csv")["slots"]
    mine = score_advice(runs, decisions)[1]
    assert (mine.cases, mine.wrong_none) == (theirs["cases"], theirs["no_answer_or_wrong_empty"]) == (1, 0)
