"""Others' measurements: a folder of made-up rows with known answers is predicted, written, read again and scored."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loratwin.cli.app import app
from loratwin.errors import CapacityError, DataError
from loratwin.llms import find_llm
from loratwin.perf import assume, find_gpu
from loratwin.records import EngineConfig
from loratwin.report.public_validation import public_html, public_markdown
from loratwin.simulate import simulate
from loratwin.validate.public import PublicTable, predict_public
from loratwin.validate.public_rows import row_config
from loratwin.validate.public_scores import public_scores, start_score
from loratwin.validate.public_serving import predict_serving
from loratwin.validate.transfer import transfer_errors
from loratwin.workload import draw, parse_spec

SERVING = {
    "id": "c8", "gpu": "h100-sxm", "engine": "vllm", "engine_version": "0.11.0", "llm": "Qwen/Qwen3-8B", "tp": "1",
    "max_num_seqs": "", "max_num_batched_tokens": "", "max_model_len": "8192", "gpu_memory_utilization": "default",
    "load": "closed", "concurrency": "8", "request_rate": "", "num_requests": "50", "prompt_tokens_mean": "200",
    "output_tokens_mean": "60", "lengths": "random fixed lengths", "lora": "no", "max_loras": "", "adapters": "",
    "max_lora_rank": "", "requests_file": "", "total_throughput": "1000", "output_throughput": "",
    "ttft_mean_ms": "20", "ttft_median_ms": "", "tpot_mean_ms": "7.5", "duration_s": "never read",
}  # fmt: skip
STEP = {
    "source": "s", "gpu": "h100-sxm", "engine": "vllm-0.15.1", "llm": "llama-3.1-8b-instruct", "tp": "1",
    "batch": "12", "context": "800", "measured_ms": "8",
}  # fmt: skip
KV = {
    "id": "K1", "gpu": "h100-sxm", "engine": "vllm-0.11.0", "llm": "llama-3.1-8b-instruct", "tensor_parallel": "1",
    "quantization": "", "kv_cache_dtype": "", "max_model_len": "8192", "gpu_memory_utilization": "0.9",
    "max_num_seqs": "256", "max_num_batched_tokens": "8192", "max_loras": "", "max_lora_rank": "",
    "kv_tokens": "400000", "kv_gib_per_gpu": "", "starts": "1",
}  # fmt: skip


def written(folder: Path, name: str, *rows: dict[str, str]) -> None:
    with open(folder / name, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return public_folder(tmp_path)


def public_folder(inside: Path) -> Path:
    """All three files, of rows that can be predicted and rows that cannot."""
    data = inside / "data"
    data.mkdir()
    written(data, "serving.csv", SERVING, SERVING | {"id": "other", "engine": "sglang"})
    written(data, "decode_steps.csv", STEP, STEP | {"gpu": "abacus"})
    written(data, "kv_capacity.csv", KV, KV | {"id": "K2", "gpu": "t4", "kv_tokens": "", "starts": "0"})
    return data


def test_every_row_is_predicted_or_says_why(folder: Path) -> None:
    kv, steps, serving = predict_public(folder)
    assert [table.name for table in (kv, steps, serving)] == ["kv_capacity.csv", "decode_steps.csv", "serving.csv"]
    assert kv.reasons == ("", "") and kv.predictions[0]["starts"] == 1 and kv.predictions[1]["starts"] == 0
    assert steps.reasons[0] == "" and "unknown GPU" in steps.reasons[1]
    assert serving.reasons == ("", "engine = 'sglang': runs of vLLM can be predicted")
    for name in ("total_throughput", "ttft_mean_ms", "tpot_mean_ms"):
        low, value, high = (serving.predictions[0][name + end] for end in ("_low", "", "_high"))
        assert 0 < low < value < high


def test_a_serving_row_is_the_twin_with_the_assumed_profile(folder: Path) -> None:
    """The same by hand: profile, configuration and workload."""
    engine = "vllm-0.11.0"
    profile = assume(find_gpu("h100-sxm"), find_llm("qwen-3-8b", engine), engine)
    limits = profile.limits
    config = EngineConfig(
        max_loras=0, max_num_seqs=limits.max_num_seqs, max_num_batched_tokens=limits.max_num_batched_tokens,
        max_model_len=8192, gpu_memory_utilization=0.9,
    )  # fmt: skip
    lengths = {"prompt": {"kind": "fixed", "tokens": 200}, "output": {"kind": "fixed", "tokens": 60}}
    base = {"arrivals": {"kind": "closed", "concurrency": 8, "requests": 50}}
    run = simulate(draw(parse_spec({"window_s": 86_400, "lengths": lengths, "base": base})), profile, config)
    assert len(run.requests) == 50
    predicted = predict_serving(SERVING, folder)
    assert predicted["total_throughput"] == pytest.approx(50 * 260 / run.window_s, rel=1e-9)


def test_measured_figures_are_never_looked_at(folder: Path) -> None:
    other = SERVING | {"total_throughput": "1", "tpot_mean_ms": "", "duration_s": "5", "ttft_mean_ms": "nothing"}
    assert predict_serving(other, folder) == predict_serving(SERVING, folder)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"load": "all at t=0 (request rate inf)", "request_rate": "inf"}, "ttft"),
        ({"load": "open: Poisson", "request_rate": "2", "num_requests": "100"}, "rate"),
        ({"load": "open: constant rate", "request_rate": "2", "num_requests": "100"}, "rate"),
        ({"lora": "yes", "adapters": "4", "max_loras": "4", "max_lora_rank": "16"}, "lora"),
        ({"lengths": "sharegpt"}, "any"),
    ],
)
def test_every_kind_of_load_is_understood(folder: Path, change: dict[str, str], check: str) -> None:
    plain, changed = predict_serving(SERVING, folder), predict_serving(SERVING | change, folder)
    if check == "ttft":
        assert changed["ttft_mean_ms"] > 2 * plain["ttft_mean_ms"]
    if check == "rate":
        assert changed["total_throughput"] == pytest.approx(2 * 260, rel=0.25)
    if check == "lora":
        assert changed["tpot_mean_ms"] > plain["tpot_mean_ms"]


def test_mean_lengths_are_those_of_the_very_requests(folder: Path) -> None:
    """Sixty requests drawn from a population are 10 to 20 % off its means; those that were sent are not."""
    told = SERVING | {"lengths": "sharegpt", "num_requests": "60", "prompt_tokens_mean": "300"}
    predicted = predict_serving(told, folder)
    assert predicted["total_throughput"] / predicted["output_throughput"] == pytest.approx(360 / 60, rel=0.01)


def test_a_burst_passes_the_front_end_before_anything_is_answered(folder: Path) -> None:
    burst = SERVING | {"load": "all at t=0", "num_requests": "400", "output_tokens_mean": "2"}
    profile = assume(find_gpu("h100-sxm"), find_llm("qwen-3-8b", "vllm-0.11.0"), "vllm-0.11.0")
    first_ms = 400 * 1e3 * profile.frontend.overhead_s
    predicted = predict_serving(burst, folder)
    assert predicted["ttft_median_ms"] > first_ms
    assert 400 * 202 / predicted["total_throughput"] > first_ms / 1e3
    assert (
        predicted["total_throughput_high"] > 1.5 * predicted["total_throughput"]
    )  # as unsure as saturated servers are


def test_prompts_that_are_sent_again_come_from_the_prefix_cache(folder: Path) -> None:
    """All but the last block of each, after the first time: a long prompt then takes about as long as a short one."""
    told = SERVING | {"load": "open: constant rate", "request_rate": "2", "num_requests": ""}
    long, short = {"prompt_tokens_mean": "3000"}, {"prompt_tokens_mean": "16"}
    shared = {"lengths": "general (shared prefix, multi-turn)"}
    own, repeated = (predict_serving(told | long | how, folder) for how in ({}, shared))
    assert repeated["ttft_median_ms"] < 0.4 * own["ttft_median_ms"]
    assert repeated["ttft_median_ms"] == pytest.approx(
        predict_serving(told | short, folder)["ttft_median_ms"], rel=0.25
    )


def test_a_rate_that_is_not_told_leaves_latencies_between_few_and_many_requests(folder: Path) -> None:
    unknown = SERVING | {"load": "open: constant rate", "max_num_seqs": "32"}
    predicted = predict_serving(unknown, folder)
    assert "total_throughput" not in predicted
    for rate in ("1", "10"):
        told = predict_serving(unknown | {"request_rate": rate, "num_requests": "300"}, folder)
        for name in ("ttft_mean_ms", "tpot_mean_ms"):
            assert predicted[f"{name}_low"] < told[name] < predicted[f"{name}_high"]


@pytest.mark.parametrize(
    ("told", "on"), [("default (on)", True), ("on (default)", True), ("off", False), ("", None), ("default", None)]
)
def test_a_row_says_whether_blocks_are_found_again(told: str, on: bool | None) -> None:
    config = row_config(SERVING | {"prefix_caching": told}, "vllm-0.11.0", find_gpu("h100-sxm"))
    assert config.enable_prefix_caching is on


def test_a_server_that_ran_started(folder: Path) -> None:
    """Without a longest request told: that of the LLM where it fits, else as long as the KV cache holds."""
    small = SERVING | {"gpu": "rtx-4090", "max_model_len": ""}
    assert predict_serving(small, folder)["tpot_mean_ms"] > 0
    with pytest.raises(CapacityError, match="does not start"):
        predict_serving(small | {"max_model_len": "40960"}, folder)


def test_recorded_requests_are_sent_again(folder: Path) -> None:
    (folder / "r.csv").write_text("arrival_s,prompt_tokens,output_tokens,first_s\n0,100,10,0.1\n5,100,10,5.1\n")
    predicted = predict_serving(SERVING | {"load": "open: Poisson", "requests_file": "r.csv"}, folder)
    assert predicted["total_throughput"] == pytest.approx(220 / 5.1, rel=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"load": "sometimes"}, "it must begin with open, closed or all at t=0"),
        ({"num_requests": ""}, "num_requests = ''"),
        ({"gpu": ""}, "gpu is missing"),
    ],
)
def test_what_cannot_be_simulated_is_refused(folder: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        predict_serving(SERVING | change, folder)


def test_scores_by_hand() -> None:
    rows = (
        {"id": "a", "gpu": "x", "f": "100"},
        {"id": "b", "gpu": "x", "f": "100"},
        {"id": "c", "gpu": "y", "f": "100"},
    )
    predictions: tuple[dict[str, float], ...] = (
        {"f": 110.0, "f_low": 95.0, "f_high": 125.0},
        {"f": 70.0, "f_low": 60.0, "f_high": 80.0},
        {},
    )
    table = PublicTable("t.csv", ("id",), ("f",), rows, predictions, ("", "", "unknown"))
    (score,) = public_scores([table])
    assert (score.rows, score.predicted, score.intervals, score.inside) == (3, 2, 2, 1)
    assert (score.mean, score.median, score.worst, score.bias) == pytest.approx((0.2, 0.2, 0.3, -0.1))
    assert score.half_width == pytest.approx((15 / 110 + 10 / 70) / 2)
    by_gpu = {score.group: score for score in public_scores([table], "GPU")}
    assert by_gpu["y"].predicted == 0 and math.isnan(by_gpu["y"].mean)
    assert "| y | 1 | 0 |" in public_markdown([table]) and "unknown" in public_html([table])


def test_verdicts_on_starting() -> None:
    rows = tuple({"id": str(i), "starts": starts} for i, starts in enumerate(["1", "1", "0", "0", "1"]))
    predictions: tuple[dict[str, float], ...] = ({"starts": 1.0}, {"starts": 0.0}, {"starts": 0.0}, {"starts": 1.0}, {})
    table = PublicTable("kv_capacity.csv", ("id",), ("starts",), rows, predictions, ("",) * 5)
    score = start_score(table)
    assert (score.alive, score.alive_refused, score.died, score.died_said_to_start, score.no_verdict) == (3, 1, 2, 1, 1)


def test_the_command_writes_what_the_scorer_reads(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "predicted"
    result = CliRunner().invoke(app, ["validate", "public", str(folder), "-o", str(output), "--processes", "1"])
    assert result.exit_code == 0, result.output
    with open(output / "decode_steps.csv", newline="", encoding="utf-8") as file:
        steps = list(csv.DictReader(file))
    assert [row["gpu"] for row in steps] == ["h100-sxm", "abacus"]
    assert float(steps[0]["measured_ms_low"]) < float(steps[0]["measured_ms"]) and steps[1]["measured_ms"] == ""
    assert {"report.md", "report.html"} <= {path.name for path in output.iterdir()}


def test_a_folder_without_the_files_or_the_keys_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="holds none of kv_capacity.csv"):
        predict_public(tmp_path / "nothing")
    (folder / "serving.csv").write_text("name,gpu\na,b\n")
    with pytest.raises(DataError, match="has no column id"):
        predict_public(folder)


def test_measurements_are_not_replaced(folder: Path) -> None:
    before = (folder / "serving.csv").read_bytes()
    result = CliRunner().invoke(app, ["validate", "public", str(folder), "-o", str(folder)])
    assert result.exit_code != 0
    assert (folder / "serving.csv").read_bytes() == before


def test_servers_are_judged_by_all_others() -> None:
    """Two rows of one server count once; a closed loop, or one that keeps up, says nothing of saturation."""
    burst, overload = {"load": "all at t=0"}, {"load": "open", "num_requests": "100", "request_rate": "1"}
    rows = (
        burst | {"gpu": "a", "f": "110"}, burst | {"gpu": "a", "f": "110"},
        burst | {"gpu": "b", "f": "90", "notes": "CAUTION: do not use for latency"},
        overload | {"gpu": "c", "f": "200", "duration_s": "300"},
        overload | {"gpu": "d", "f": "900", "duration_s": "101"}, {"load": "closed", "gpu": "e", "f": "900"},
    )  # fmt: skip
    table = PublicTable("serving.csv", ("gpu",), ("f",), rows, ({"f": 100.0},) * len(rows), ("",) * len(rows))
    assert transfer_errors(table) == []  # two servers only: b says nothing of latency
    as_throughput = replace(
        table, figures=("throughput",), rows=tuple(row | {"throughput": row["f"]} for row in rows),
        predictions=({"throughput": 100.0},) * len(rows),
    )  # fmt: skip
    [found] = transfer_errors(as_throughput)
    logs = [math.log(1.1), math.log(0.9), math.log(2.0)]
    assert found.servers == 3
    assert found.rms == pytest.approx(math.sqrt(sum(log**2 for log in logs) / 3))
    assert found.half_width == pytest.approx(2.353 * found.rms, rel=1e-3)
    assert found.left_out_inside == 2
