"""The batch and replicas: on sweeps with known answers, and on the measured ones where they are."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from loratwin.advise import (
    BatchPoint,
    BatchSweep,
    advise_batch,
    advise_replicas,
    best_replicas,
    cycle_s,
    find_sweep,
    predict_replicas,
    price_slots,
    read_sweeps,
    sweep_of_runs,
    sweep_twin,
)
from loratwin.advise.text import fixed_tokens
from loratwin.cli.app import app
from loratwin.errors import CapacityError, DataError, InputError
from loratwin.llms import find_llm
from loratwin.metrics import summarize
from loratwin.perf import assume, find_gpu, load_profile
from loratwin.perf.gpu_share import gpu_busy, host_s
from loratwin.records import EngineConfig
from loratwin.simulate import served_capacity, server_configs, simulate
from loratwin.workload import draw, parse_spec
from tests.slow import SLOW

MEASURED = Path(__file__).parents[3] / "shared" / "data" / "batch_sweep_and_replication.csv"
needs_data = pytest.mark.skipif(not MEASURED.exists(), reason="measured tables (../shared/data) are not here")

BATCHES = (1, 2, 4, 8, 16, 32, 64, 96, 128, 256)


def sweep(batches: Sequence[int] = BATCHES, busy: float = 0.5, kv: float = 1e5) -> BatchSweep:
    """Steps of 10 ms and 0.1 ms for each request, 400 KV tokens each."""
    points = []
    for batch in batches:
        itl_ms = 10 + 0.1 * batch
        points.append(
            BatchPoint(batch, 1.4 * batch / itl_ms * 1e3, itl_ms, batch, min(1.0, 400 * batch / kv), kv, busy)
        )
    return BatchSweep("known", "made up", tuple(points))


def test_the_largest_batch_within_both_limits() -> None:
    """ITL at 32 is 13.2 ms: twice that is reached at 164, so 128; efficiency at B is 10.1 / (10 + 0.1 B)."""
    advice = advise_batch(sweep(), multiple=2.0)
    assert advice.point is not None and advice.point.batch == 128
    assert advice.slo_ms == pytest.approx(26.4)
    strict = advise_batch(sweep(), multiple=2.0, epsilon=0.6)
    assert strict.point is not None and strict.point.batch == 64  # 10.1 / 16.4 = 0.616; at 96: 0.515
    assert advise_batch(sweep(), slo_ms=10.0).point is None
    assert advice.kv_tokens_needed == pytest.approx(400 * 128)
    assert advice.share_of_fastest == pytest.approx((128 / 22.8) / (256 / 35.6))


def test_a_sweep_that_fills_the_cache_before_it_levels_off_has_no_knee() -> None:
    assert advise_batch(sweep(kv=400 * 600)).knee
    assert not advise_batch(sweep(BATCHES[:8], kv=400 * 96)).knee


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        ((2, 32), {}, "begins at batch 2: efficiency is measured against 1"),
        ((1, 16), {}, "has no batch 32"),
        ((1, 32), {"slo_ms": 5.0, "multiple": 2.0}, "one of them"),
        ((1, 32), {"slo_ms": -1.0}, "must be above 0"),
        ((1, 32), {"epsilon": 1.0}, "between 0 and 1"),
        ((1,), {}, r"has 1 point\(s\)"),
        ((1, 1), {}, "has a batch twice"),
    ],
)
def test_a_sweep_that_cannot_be_judged_is_refused(
    points: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        advise_batch(sweep(points), **options)


def test_the_repairman_by_hand() -> None:
    """h = g = 1: R2 = 1 + 1/2, C2 = 2.5; Q2 = 2 x 1.5 / 2.5 = 1.2, R3 = 2.2, C3 = 3.2."""
    assert [cycle_s(1.0, 1.0, number) for number in (1, 2, 3)] == pytest.approx([2.0, 2.5, 3.2])
    assert cycle_s(0.0, 1.0, 4) == pytest.approx(4.0)  # the GPU is always busy: it is shared
    assert cycle_s(1.0, 0.0, 4) == pytest.approx(1.0)  # or never


def test_the_repairman_against_a_simulation() -> None:
    """Exponential times on both sides, which the model is exact for."""
    rng = np.random.default_rng(0)
    number, host, gpu = 3, 2.0, 1.0
    free_s, done, ready = 0.0, 0, [0.0] * number
    for _ in range(200_000 if SLOW else 50_000):
        who = int(np.argmin(ready))
        free_s = max(free_s, ready[who]) + rng.exponential(gpu)
        done += 1
        ready[who] = free_s + rng.exponential(host)
    assert number * free_s / done == pytest.approx(cycle_s(host, gpu, number), rel=0.01 if SLOW else 0.02)


def test_replicas_of_a_busy_gpu_share_it_and_of_an_idle_one_do_not() -> None:
    alone = sweep().at(64)
    assert alone is not None
    full = predict_replicas(sweep(busy=1.0), 64, 2, 0.0)
    assert full.throughput == pytest.approx(alone.throughput, rel=1e-6) and full.itl_ms == pytest.approx(
        2 * alone.itl_ms
    )
    idle = predict_replicas(sweep(busy=1e-6), 64, 2, 0.0)
    assert idle.throughput == pytest.approx(2 * alone.throughput, rel=1e-3)


def test_one_replica_in_a_steady_stream_is_the_sweeps_own_server() -> None:
    """Also where fewer requests run than the batch holds, since clients wait for their first token."""
    waiting = BatchSweep("known", "made up", tuple(replace(one, running=0.9 * one.batch) for one in sweep().points))
    for batch in (1, 64, 256):
        alone, said = waiting.at(batch), predict_replicas(waiting, batch, 1, 0.0)
        assert alone is not None
        assert (said.throughput, said.running) == (pytest.approx(alone.throughput), pytest.approx(alone.running))


def test_memory_is_shared_after_the_weights() -> None:
    two = predict_replicas(sweep(kv=1e5), 96, 2, fixed_tokens=2e4)
    assert two.kv_tokens == pytest.approx((1e5 + 2e4) / 2 - 2e4)
    four = predict_replicas(sweep(kv=1e5), 96, 4, fixed_tokens=2e4)
    assert four.kv_limited and four.running < 96 and four.kv_tokens == pytest.approx(1e4)
    with pytest.raises(CapacityError, match="8 replicas of known do not fit"):
        predict_replicas(sweep(kv=1e5), 96, 8, fixed_tokens=2e4)
    tried = advise_replicas(sweep(kv=1e5), (1, 2, 4, 8), 2e4, batch=96)
    assert [one.number for one in tried.tried] == [1, 2, 4] and tried.too_many == (8,)
    best = best_replicas(sweep(kv=1e5), (1, 2, 4, 8), 1e9, 2e4)
    assert best is not None and best.number in (2, 4)
    assert best_replicas(sweep(), (1, 2), 1.0, 0.0) is None


def test_without_the_gpus_share_nobody_knows() -> None:
    with pytest.raises(InputError, match="does not tell how busy the GPU was"):
        predict_replicas(sweep(busy=float("nan")), 64, 2, 0.0)


HEADER = (
    "model,max_num_seqs,total_token_throughput,mean_itl_ms,running_mean_0,kv_usage_max_0,kv_tokens,gpu_util_mean,"
    "outcome,multiple_servers"
)


def table(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "sweep.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_tables_are_read_by_llm_without_what_failed_or_had_several_servers(tmp_path: Path) -> None:
    path = table(
        tmp_path, "a,1,100,10,1,0.1,1000,80,ok,", "a,32,900,20,30,0.5,1000,60,ok,", "a,64,1,1,1,1,1,1,failed,",
        "a,128,1,1,1,1,1,1,ok,2.0", "b,1,50,20,1,0.1,1000,,ok,", "b,2,90,21,2,0.1,1000,,ok,",
    )  # fmt: skip
    first, second = read_sweeps(path)
    assert [point.batch for point in first.points] == [1, 32] and first.points[0].gpu_busy == 0.8
    assert second.llm == "b" and np.isnan(second.points[0].gpu_busy)
    with pytest.raises(InputError, match=r"has several LLMs: choose one with --llm \(a, b\)"):
        find_sweep([path])


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([], HEADER, "no rows"),
        (["a,1"], "model,max_num_seqs", "no column total_token_throughput"),
        (["a,1,fast,10,1,1,1,1,ok,"], HEADER, "line 2: total_token_throughput = 'fast' is no number"),
        (["a,1,0,10,1,1,1,1,ok,"], HEADER, "throughput = 0, but it must be above 0"),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, rows: list[str], header: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_sweeps(table(tmp_path, *rows, header=header))


def test_records_are_a_sweep(tmp_path: Path) -> None:
    profile = assume(find_gpu("h100-64gb"), find_llm("opt-1.3b"), "vllm-0.8.5")
    lengths = {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 30}}
    workload = draw(parse_spec({"lengths": lengths, "base": {"arrivals": {"kind": "at_once", "requests": 100}}}))
    runs = {
        f"{batch}": simulate(workload, profile, EngineConfig(max_loras=0, max_num_seqs=batch)) for batch in (1, 8, 32)
    }
    found = sweep_of_runs(runs)
    assert [point.batch for point in found.points] == [1, 8, 32]
    assert found.points == _without_share(sweep_twin(workload, profile, [1, 8, 32]))
    assert advise_batch(found, multiple=2.0).point is not None
    runs["8"] = replace(runs["8"], provenance=replace(runs["8"].provenance, llm="opt-2.7b"))
    with pytest.raises(InputError, match=r"the records are of several LLMs \(opt-2.7b, the LLM\): a sweep is of one"):
        sweep_of_runs(runs)


def _without_share(sweep: BatchSweep) -> tuple[BatchPoint, ...]:
    """What a record knows: the GPU's share is the twin's alone."""
    assert all(0 < point.gpu_busy < 1 for point in sweep.points)
    return tuple(replace(point, gpu_busy=nan) for point in sweep.points)


def test_the_command(tmp_path: Path) -> None:
    rows = [
        f"opt-1.3b,{p.batch},{p.throughput},{p.itl_ms},{p.running},{p.kv_used},{p.kv_tokens},50,ok,"
        for p in sweep(kv=400 * 600).points
    ]
    path = table(tmp_path, *rows)
    said = CliRunner().invoke(app, ["advise", "batch", str(path)]).output
    assert "run --max-num-seqs 128: " in said and "--kv-cache-memory-bytes" in said
    data = json.loads(CliRunner().invoke(app, ["advise", "batch", str(path), "--times", "4", "--json"]).output)
    assert data["max_num_seqs"] == 256
    said = CliRunner().invoke(app, ["advise", "replicas", str(path), "--replicas", "1,2", "--itl-ms", "30"]).output
    assert "best within 30 ms: 2 x batch" in said


@needs_data
@pytest.mark.parametrize("llm", ["opt-1.3b", "opt-2.7b", "llama-2-7b"])
@pytest.mark.parametrize(("multiple", "batch"), [(2.0, 96), (4.0, 256)])
def test_the_published_batches(llm: str, multiple: float, batch: int) -> None:
    """As arXiv 2503.08311 runs them."""
    (found,) = [sweep for sweep in read_sweeps(MEASURED) if sweep.llm == llm]
    advice = advise_batch(found, multiple=multiple)
    assert advice.point is not None and advice.point.batch == batch and advice.knee


@needs_data
def test_the_published_shares_and_the_llm_without_a_knee() -> None:
    """83 % of the throughput of the largest batch with 16 % of the KV cache, in the runs beside the replicas."""
    sweeps = {sweep.llm: sweep for sweep in read_sweeps(MEASURED)}
    advice = advise_batch(sweeps["opt-1.3b"], multiple=2.0)
    assert advice.point is not None and advice.point.kv_used == pytest.approx(0.16, abs=0.005)
    alone = {
        row["max_num_seqs"]: row for row in replication() if row["run"].endswith("__1") and "opt-1.3b/" in row["run"]
    }
    share = float(alone["96.0"]["total_token_throughput"]) / float(alone["768.0"]["total_token_throughput"])
    assert share == pytest.approx(0.83, abs=0.005) and advice.share_of_largest == pytest.approx(share, abs=0.02)
    assert not advise_batch(sweeps["llama-2-13b"], multiple=2.0).knee


def replication() -> list[dict[str, str]]:
    with open(MEASURED, newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["run"].startswith("replication/")]


@needs_data
def test_the_published_replicas() -> None:
    """Throughput within 10 %, time between tokens within 15 %, of every run of two and four replicas."""
    sweeps = {sweep.llm: sweep for sweep in read_sweeps(MEASURED)}
    several = [row for row in replication() if not row["run"].endswith("__1")]
    assert len(several) == 7
    for row in several:
        number, llm = int(row["run"].rsplit("__", 1)[1]), row["model"]
        fixed = fixed_tokens(find_llm(llm))
        found = predict_replicas(sweeps[llm], int(float(row["max_num_seqs"])), number, fixed, 2000)
        assert found.throughput == pytest.approx(float(row["total_token_throughput"]), rel=0.11), row["run"]
        assert found.itl_ms == pytest.approx(float(row["mean_itl_ms"]), rel=0.15), row["run"]
    for llm in ("opt-1.3b", "opt-2.7b"):
        most = max((row for row in several if row["model"] == llm and float(row["max_num_seqs"]) == 96), key=speed)
        tried = [predict_replicas(sweeps[llm], 96, n, fixed_tokens(find_llm(llm)), 2000) for n in numbers(several, llm)]
        assert max(tried, key=lambda one: one.throughput).number == int(most["run"].rsplit("__", 1)[1])


def speed(row: dict[str, str]) -> float:
    return float(row["total_token_throughput"])


def numbers(rows: list[dict[str, str]], llm: str) -> list[int]:
    of_96 = [row for row in rows if row["model"] == llm and float(row["max_num_seqs"]) == 96]
    return [1, *(int(row["run"].rsplit("__", 1)[1]) for row in of_96)]


@needs_data
@pytest.mark.parametrize("llm", ["opt-1.3b", "opt-2.7b", "llama-2-7b"] if SLOW else ["llama-2-7b"])
def test_the_twin_says_the_same_batch_to_one_step_of_the_grid(llm: str) -> None:
    """Of an assumed profile of a later engine: V0 measured, V1 simulated."""
    (measured,) = [sweep for sweep in read_sweeps(MEASURED) if sweep.llm == llm]
    profile = assume(find_gpu("h100-64gb"), find_llm(llm), "vllm-0.8.5")
    base = {"arrivals": {"kind": "at_once", "requests": 2000}}
    lengths = {"kind": "sharegpt", "prompt_mean": 113, "output_mean": 310}
    workload = draw(parse_spec({"window_s": 30_000, "lengths": lengths, "base": base}))
    batches = [point.batch for point in measured.points]
    twin = sweep_twin(workload, profile, batches, max_model_len=2048)
    for multiple in (2.0, 4.0):
        of_twin, of_table = (advise_batch(sweep, multiple=multiple).point for sweep in (twin, measured))
        assert of_twin is not None and of_table is not None
        assert abs(batches.index(of_twin.batch) - batches.index(of_table.batch)) <= 1


BURST = """window_s: 7200
lengths: {prompt: {kind: fixed, tokens: 100}, output: {kind: fixed, tokens: 50}}
groups: [{name: a, count: 3, ranks: 16, rate: 5}]
"""


def test_replicas_by_the_twin_alone(tmp_path: Path) -> None:
    """The twin knows the GPU's share: no measured sweep is needed."""
    (tmp_path / "burst.yaml").write_text(BURST.replace("7200", "20"))
    twin = ["--workload", str(tmp_path / "burst.yaml"), "--profile", "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"]
    said = CliRunner().invoke(app, ["advise", "replicas", *twin, "--batches", "1,32", "--replicas", "1,2"]).output
    assert "1 x batch " in said and "2 x batch " in said, said


def test_slots_of_the_twins_server() -> None:
    """More slots leave fewer KV tokens."""
    profile = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
    workload = draw(parse_spec(yaml.safe_load(BURST.replace("7200", "5"))))
    few, each, many = (sweep_twin(workload, profile, [1, 8], slots) for slots in (1, None, 64))
    assert few.points[0].kv_tokens > each.points[0].kv_tokens > many.points[0].kv_tokens


def test_slots_in_place_of_free_memory_are_priced_by_the_twin(tmp_path: Path) -> None:
    """As `simulate` has each number; the most leave the KV cache that the batch fills, one more does not."""
    profile = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
    (tmp_path / "many.yaml").write_text(BURST.replace("7200", "10").replace("count: 3", "count: 12"))
    workload = draw(parse_spec(yaml.safe_load((tmp_path / "many.yaml").read_text())))
    advice = advise_batch(sweep_twin(workload, profile, [1, 32, 64], 2), multiple=2.0)
    found = price_slots(advice, workload, profile, 2)
    assert found is not None and advice.point is not None and found.rank == 16
    assert [price.slots for price in found.prices[:3]] == [2, 8, 16]
    for price in (found.prices[0], found.prices[-1]):
        (config,) = server_configs(workload, profile, [price.slots], max_num_seqs=advice.point.batch)
        alone = summarize(simulate(workload, profile, config))
        assert (price.throughput, price.itl_ms, price.swap_ins) == (
            alone.total_throughput, alone.itl_mean_ms, alone.swap_ins
        )  # fmt: skip
    most = found.prices[-1].slots
    (one_more,) = server_configs(workload, profile, [most + 1], max_num_seqs=advice.point.batch)
    beyond = served_capacity(profile, one_more)  # the longest request, or the batch, has no place
    assert found.prices[-1].kv_tokens >= advice.kv_tokens_needed
    assert not beyond.starts or beyond.tokens < advice.kv_tokens_needed
    assert found.best.throughput >= 0.999 * max(p.throughput for p in found.prices if p.itl_ms <= advice.slo_ms)
    twin = ["--workload", str(tmp_path / "many.yaml"), "--profile", profile.name, "--max-loras", "2"]
    said = CliRunner().invoke(app, ["advise", "batch", *twin, "--batches", "1,32,64"]).output
    assert f"{most:,} slots: {found.prices[-1].throughput:,.0f} tokens/s" in said


def test_where_nothing_is_free_no_slots_are_priced() -> None:
    profile = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
    workload = draw(parse_spec(yaml.safe_load(BURST.replace("7200", "5"))))
    full = advise_batch(sweep(BATCHES[:8], kv=400 * 96))
    assert not full.knee and price_slots(full, workload, profile) is None
    assert price_slots(advise_batch(sweep(), slo_ms=1.0), workload, profile) is None


def test_the_hosts_part_of_steps_by_hand() -> None:
    """vLLM 0.11: 0.7 ms a step, 15 us a running request, 2 ms where a prompt is computed; at most the step."""
    profile = assume(find_gpu("h100-64gb"), find_llm("llama-2-7b"), "vllm-0.11.0")
    workload = draw(parse_spec(yaml.safe_load(BURST.replace("7200", "5"))))
    (config,) = server_configs(workload, profile)
    steps = simulate(workload, profile, config).steps
    expected = 0.7e-3 + 15e-6 * steps.running + 2e-3 * (steps.prefill_tokens > 0)
    expected = expected + profile.step_time.skipped_s * steps.skipped
    assert host_s(profile, steps) == pytest.approx(np.minimum(expected, steps.duration_s))
    assert gpu_busy(profile, steps) == pytest.approx(1 - host_s(profile, steps).sum() / steps.duration_s.sum())
    assert np.isnan(gpu_busy(profile, None))


@needs_data
@pytest.mark.parametrize("llm", ["opt-1.3b", "opt-2.7b"] if SLOW else ["opt-1.3b"])
def test_the_twins_replicas_beside_the_published_ones(llm: str) -> None:
    """Two replicas of an assumed profile of a later engine: throughput within 10 %. Four, whose host is the first
    engine's, are not: it was slower, and left the GPU more time for others."""
    sizes = find_llm(llm)
    profile = assume(find_gpu("h100-64gb"), sizes, "vllm-0.8.5")
    lengths = {"kind": "sharegpt", "prompt_mean": 113, "output_mean": 310}
    base = {"arrivals": {"kind": "at_once", "requests": 2000}}
    workload = draw(parse_spec({"window_s": 30_000, "lengths": lengths, "base": base}))
    twin = sweep_twin(workload, profile, [1, 32, 96, 128, 192, 256], max_model_len=2048)
    for row in replication():
        if row["model"] == llm and row["run"].endswith("__2"):
            found = predict_replicas(twin, int(float(row["max_num_seqs"])), 2, fixed_tokens(sizes), 2000)
            assert found.throughput == pytest.approx(float(row["total_token_throughput"]), rel=0.1), row["run"]
            assert found.itl_ms == pytest.approx(float(row["mean_itl_ms"]), rel=0.1), row["run"]
