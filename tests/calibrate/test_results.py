"""Results of other load clients, each in the form that it publishes: the same three requests come out of all."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.calibrate.results.read import load_runs_or_results, read_result, read_results
from loratwin.errors import DataError, InputError
from loratwin.metrics import summarize
from loratwin.records import load_run, save_run

T = 1_759_813_207.0
"""Seconds of an epoch; the requests start 0, 1 and 2 s later, the last fails."""

COLUMNS: dict[str, Any] = {
    "backend": "vllm", "model_id": "tiny", "request_rate": "inf", "max_concurrency": None, "duration": 4.0,
    "completed": 2, "total_input_tokens": 30, "request_throughput": 0.5,
    "input_lens": [10, 20, 30], "output_lens": [3, 3, 0], "ttfts": [0.5, 0.25, 0.0],
    "itls": [[0.1, 0.3], [0.2, 0.2], []], "errors": ["", "", "HTTP 500"],
}  # fmt: skip


def guidellm(request: Any) -> dict[str, Any]:
    rows = {"successful": [request(0.0, 0.5, 0.9, 10, 3), request(1.0, 1.25, 1.65, 20, 3)],
            "errored": [{**request(2.0, None, 2.1, 30, 0), "error": "HTTP 500"}], "incomplete": []}  # fmt: skip
    return {"benchmarks": [{"requests": rows, "worker": {"backend_model": "tiny"}}]}


def guidellm_02(start: float, first: float | None, end: float, prompt: int, output: int) -> dict[str, Any]:
    return {"start_time": T + start, "first_token_time": None if first is None else T + first, "end_time": T + end + 9,
            "last_token_time": T + end, "prompt_tokens": prompt, "output_tokens": output}  # fmt: skip


def guidellm_05(start: float, first: float | None, end: float, prompt: int, output: int) -> dict[str, Any]:
    times = {"request_start": T + start, "first_token_iteration": None if first is None else T + first,
             "last_token_iteration": T + end, "request_end": T + end + 9}  # fmt: skip
    return {"info": {"timings": times}, "input_metrics": {"text_tokens": prompt},
            "output_metrics": {"text_tokens": output}}  # fmt: skip


def aiperf(start: float, first: float, end: float, prompt: int, gaps: list[float], error: Any = None) -> dict[str, Any]:
    ms = {"unit": "ms"}
    metrics: dict[str, Any] = {"error_isl": {"value": prompt, "unit": "tokens"}} if error else {
        "input_sequence_length": {"value": prompt, "unit": "tokens"},
        "output_sequence_length": {"value": len(gaps) + 1, "unit": "tokens"},
        "time_to_first_token": {"value": (first - start) * 1e3, **ms},
        "request_latency": {"value": (end - start) * 1e3, **ms},
        "inter_chunk_latency": {"value": [gap * 1e3 for gap in gaps], **ms},
    }  # fmt: skip
    about = {"request_start_ns": round((T + start) * 1e9), "request_end_ns": round((T + end) * 1e9),
             "benchmark_phase": "profiling", "was_cancelled": False}  # fmt: skip
    return {"metadata": about, "metrics": metrics, "error": error}


def lifecycle(start: float, end: float, prompt: int, times: list[float], error: Any, new: bool) -> dict[str, Any]:
    told = {"output_tokens": len(times), "output_token_times": [T + each for each in times]}
    info = {"input_tokens": prompt, **({"response_metrics": told} if new else told)}
    return {"start_time": T + start, "end_time": T + end, "request": json.dumps({"model": "tiny"}), "response": "",
            "info": info, "error": error}  # fmt: skip


def lifecycles(new: bool) -> list[dict[str, Any]]:
    return [
        lifecycle(0.0, 0.9, 10, [0.5, 0.6, 0.9], None, new),
        lifecycle(1.0, 1.65, 20, [1.25, 1.45, 1.65], None, new),
        lifecycle(2.0, 2.1, 30, [], {"error_type": "HTTP 500", "error_msg": "x"}, new),
    ]


AIPERF = [
    aiperf(0.0, 0.5, 0.9, 10, [0.1, 0.3]),
    aiperf(1.0, 1.25, 1.65, 20, [0.2, 0.2]),
    aiperf(2.0, 2.0, 2.1, 30, [], {"code": 500, "type": "x", "message": "y"}),
]
STARTS = [T, T + 1, T + 2]


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


FILES = {
    "vllm.json": json.dumps({**COLUMNS, "start_times": STARTS}),
    "no-errors.json": json.dumps({key: value for key, value in {**COLUMNS, "start_times": STARTS}.items()
                                  if key != "errors"}),
    "appended.jsonl": json.dumps({**COLUMNS, "start_times": STARTS}) + "\n",
    "guidellm-0.2.json": json.dumps(guidellm(guidellm_02)),
    "guidellm-0.5.json": json.dumps(guidellm(guidellm_05)),
    "profile_export.jsonl": lines(AIPERF),
    "lifecycle.json": json.dumps(lifecycles(new=False)),
    "lifecycle-new.json": json.dumps(lifecycles(new=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_form_holds_the_same_requests(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])
    run = read_result(tmp_path / name)
    table = run.requests
    np.testing.assert_allclose(table.arrival_s, [0, 1, 2], atol=1e-6)
    np.testing.assert_allclose(table.first_token_s[:2], [0.5, 1.25], atol=1e-6)
    np.testing.assert_allclose(table.finish_s[:2], [0.9, 1.65], atol=1e-6)
    assert table.prompt_tokens.tolist() == [10, 20, 30] and table.output_tokens.tolist()[:2] == [3, 3]
    assert table.failure is not None and table.failure.tolist() == [-1, -1, 0] and len(run.failures) == 1
    assert summarize(run).completed == 2
    assert summarize(run).itl_mean_ms == pytest.approx(200.0, rel=1e-5)


def test_all_gaps_count_where_a_delivery_holds_several_tokens(tmp_path: Path) -> None:
    data = {**COLUMNS, "start_times": STARTS, "output_lens": [100, 101, 0]}  # three deliveries each
    (tmp_path / "a.json").write_text(json.dumps(data))
    run = load_run(save_run(read_result(tmp_path / "a.json"), tmp_path / "run.json"))
    assert summarize(run).itl_mean_ms == pytest.approx(200.0)  # by tokens it would be 4.0
    assert summarize(run).itl_median_ms == pytest.approx(200.0, rel=0.01)


def test_older_files_without_start_times_are_put_in_time_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**COLUMNS, "max_concurrency": 1}))
    run = read_result(tmp_path / "a.json")
    np.testing.assert_allclose(run.requests.arrival_s, [0.0, 0.9, 0.9 + 0.65])
    assert any("start times are not in the file: sent all at once, no more than 1" in n for n in run.provenance.notes)
    (tmp_path / "a.json").write_text(json.dumps({**COLUMNS, "request_rate": 4.0}))
    np.testing.assert_allclose(read_result(tmp_path / "a.json").requests.arrival_s, [0.0, 0.25, 0.5])
    data = {key: value for key, value in COLUMNS.items() if key not in ("request_rate", "max_concurrency")}
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=r"neither start_times \(.*\) nor request_rate and max_concurrency"):
        read_result(tmp_path / "a.json")


def test_lines_and_sweeps_hold_several_results(tmp_path: Path) -> None:
    two = [{**COLUMNS, "start_times": STARTS}, {**COLUMNS, "start_times": STARTS, "backend": "sglang"}]
    (tmp_path / "two.jsonl").write_text(lines(two))
    assert list(read_results(tmp_path / "two.jsonl")) == ["two-1", "two-2"]
    with pytest.raises(InputError, match="holds 2 results"):
        read_result(tmp_path / "two.jsonl")
    sweep = tmp_path / "sweep"
    for rate in (1, 2):
        (sweep / f"BENCH--rate={rate}").mkdir(parents=True)
        (sweep / f"BENCH--rate={rate}" / "run=0.json").write_text(json.dumps(two[0]))
        (sweep / f"BENCH--rate={rate}" / "summary.json").write_text(json.dumps([two[0]]))
    assert list(read_results(sweep)) == ["BENCH--rate=1-run=0", "BENCH--rate=2-run=0"]
    with pytest.raises(DataError, match="no result of"):
        read_results(_empty(tmp_path))


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_llmperf_needs_the_summary_beside_it(tmp_path: Path) -> None:
    row = {"error_code": None, "error_msg": "", "inter_token_latency_s": 0.1, "ttft_s": 0.5,
           "end_to_end_latency_s": 1.0, "number_total_tokens": 13, "number_output_tokens": 3,
           "number_input_tokens": 10}  # fmt: skip
    path = tmp_path / "tiny_10_3_individual_responses.json"
    path.write_text(json.dumps([row, row, {**row, "error_code": 429}, row]))
    with pytest.raises(DataError, match="LLMPerf writes no start times"):
        read_result(path)
    (tmp_path / "tiny_10_3_summary.json").write_text(json.dumps({"model": "tiny", "num_concurrent_requests": 2}))
    run = read_result(path)
    assert run.requests.arrival_s.tolist() == [0.0, 0.0, 1.0, 1.0] and run.failures == ("HTTP 429",)
    assert run.gaps is None and run.provenance.llm == "tiny"


def test_defaults_come_from_the_servers_gpu_and_version_not_from_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loratwin.engines.config._gpu", lambda: pytest.fail("asked what this machine has"))
    (tmp_path / "a.json").write_text(FILES["vllm.json"])
    told = {"engine_version": "vllm-0.8.5", "gpu": "h100-sxm"}
    config = read_result(tmp_path / "a.json", "--model tiny", **told).config  # type: ignore[arg-type]
    assert (config.max_num_seqs, config.max_num_batched_tokens, config.gpu_memory_utilization) == (1024, 8192, 0.9)
    run = read_result(tmp_path / "a.json", "--max-num-seqs 64", "vllm-0.32.0")
    assert (run.config.max_num_seqs, run.config.gpu_memory_utilization) == (64, 0.92)
    assert any("max_num_batched_tokens 2048" in note and "(--gpu and --engine" in note for note in run.provenance.notes)


def test_adapters_that_the_file_names_need_ranks_and_others_are_said_to_be_unknown(tmp_path: Path) -> None:
    rows = lifecycles(new=True)
    rows[1]["info"]["lora_adapter"] = "b"
    rows[0]["info"]["lora_adapter"] = "a"
    rows[2]["request"] = "{}"
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match=r"names adapters \(a, b, tiny|names adapters \(a, b"):
        read_result(tmp_path / "a.json", "--enable-lora")
    run = read_result(tmp_path / "a.json", "--enable-lora", ranks=(8, 16))
    assert run.adapters.name == ("a", "b") and run.adapters.rank.tolist() == [8, 16]
    assert run.requests.adapter.tolist() == [0, 1, -1]
    (tmp_path / "v.json").write_text(FILES["vllm.json"])
    notes = read_result(tmp_path / "v.json", "--enable-lora").provenance.notes
    assert any("does not name the adapter of a request (they may be random)" in note for note in notes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"duration": 4.0, "mean_ttft_ms": 1.0}, "means of vllm bench serve only.*--save-detailed"),
        ({"duration": 4.0, "mean_ttft_ms": 1.0, "backend": "sglang"}, "bench_serving.*--output-details"),
        ({"benchmarks": [{"requests": {}}]}, "no single request of GuideLLM"),
        ({"input_config": {}, "request_latency": {}}, "means of AIPerf only.*profile_export.jsonl"),
        ({"load_summary": {}, "successes": {}}, "means of inference-perf only.*per_request_lifecycle_metrics.json"),
        ({"results_ttft_s_mean": 1.0}, "means of LLMPerf only.*individual_responses"),
        ({"x": 1}, "not a result of vllm bench serve, SGLang's"),
        ([], "not a result of"),
        ([{**AIPERF[0], "metadata": {**AIPERF[0]["metadata"], "benchmark_phase": "warmup"}}], "no request of the prof"),
        ({**COLUMNS, "start_times": STARTS, "ttfts": [-1.0, 0.1, 0.0]}, "ttfts and itls must be seconds"),
        ([{**lifecycles(new=True)[0], "end_time": T - 5, "info": {"input_tokens": 1}}], "in this order"),
        ([lifecycle(0.0, 0.9, 10, [0.5, 0.4, 0.9], None, True)], "times between tokens must be numbers, 0 or more"),
        ([aiperf(0.0, 0.5, 0.9, 10, [float("nan"), 0.3])], "times between tokens must be numbers, 0 or more"),
    ],
)  # fmt: skip
def test_the_rest_is_refused_with_the_reason(data: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=message):
        read_result(tmp_path / "a.json")


def test_what_is_no_json_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        read_result(tmp_path / "a.json")
    (tmp_path / "a.jsonl").write_text("{}\nx\n")
    with pytest.raises(DataError, match="neither JSON nor JSON lines: line 2"):
        read_result(tmp_path / "a.jsonl")


def test_results_of_one_name_are_all_kept(tmp_path: Path) -> None:
    files = [tmp_path / folder / "result.json" for folder in "abc"]
    for file in files:
        file.parent.mkdir()
        file.write_text(FILES["vllm.json"])
    assert list(load_runs_or_results(files)) == ["result", "result-2", "result-3"]


def test_a_report_is_told_version_and_gpu_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(FILES["vllm.json"])
    (small,) = load_runs_or_results([tmp_path / "a.json"]).values()
    (large,) = load_runs_or_results([tmp_path / "a.json"], "vllm-0.32.0", "h100-sxm").values()
    assert (small.config.max_num_seqs, large.config.max_num_seqs) == (256, 1024)
    assert large.provenance.engine_version == "vllm-0.32.0" and large.provenance.gpu == "h100-sxm"


def event(**body: Any) -> str:
    return f"data: {json.dumps(body)}\n\n"


def genai_perf(start: float, times: list[float], prompt: str, usage: bool, error: str = "") -> dict[str, Any]:
    """A request as Perf Analyzer writes it, in nanoseconds: an event with a role before the first token."""
    words = [event(choices=[{"delta": {"content": f"w{i}"}, "finish_reason": None}]) for i in range(len(times))]
    outputs = [words[0] if i == 0 else word for i, word in enumerate(words)]
    stamps = list(times)
    if error:
        outputs, stamps = [event(error={"message": error, "code": 500})], [start + 0.1]
    else:
        outputs.insert(0, event(choices=[{"delta": {"role": "assistant", "content": ""}}]))
        stamps.insert(0, times[0] - 0.01)
        counted = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(times)}
        outputs.append((event(choices=[], usage=counted) if usage else "") + "data: [DONE]\n\n")
        stamps.append(times[-1] + 0.01)
    body = {"model": "tiny", "messages": [{"role": "user", "content": prompt}], "stream": True}
    return {
        "timestamp": round((T + start) * 1e9), "request_inputs": {"payload": json.dumps(body)},
        "response_timestamps": [round((T + at) * 1e9) for at in stamps],
        "response_outputs": [{"response": text} for text in outputs],
    }  # fmt: skip


@pytest.mark.parametrize("usage", [True, False])
def test_genai_perf_tells_events_and_perhaps_usage(usage: bool, tmp_path: Path) -> None:
    requests = [
        genai_perf(0.0, [0.5, 0.6, 0.9], "x" * 40, usage),
        genai_perf(1.0, [1.25, 1.45, 1.65], "x" * 80, usage),
        genai_perf(2.0, [], "x" * 120, usage, "HTTP 500"),
    ]
    experiment = {"experiment": {"mode": "concurrency", "value": 2}, "requests": requests}
    data = {"service_kind": "openai", "endpoint": "v1/chat/completions", "experiments": [experiment]}
    (tmp_path / "profile_export.json").write_text(json.dumps(data))
    (run,) = read_results(tmp_path / "profile_export.json").values()
    table = run.requests
    np.testing.assert_allclose(table.arrival_s, [0, 1, 2], atol=1e-6)
    np.testing.assert_allclose(table.first_token_s[:2], [0.5, 1.25], atol=1e-6)
    np.testing.assert_allclose(table.finish_s[:2], [0.9, 1.65], atol=1e-6)
    assert table.prompt_tokens.tolist() == [10, 20, 30] and table.output_tokens.tolist()[:2] == [3, 3]
    assert run.failures == ("HTTP 500",) and run.provenance.llm == "tiny"
    assert summarize(run).itl_mean_ms == pytest.approx(200.0, rel=1e-5)
    assert any("lengths are estimated" in note for note in run.provenance.notes)  # of the one that failed


def test_triton_and_answers_in_one_piece(tmp_path: Path) -> None:
    said = {"choices": [{"message": {"content": "x" * 12}}], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}
    requests = [
        {"timestamp": 0, "request_inputs": {"text_input": "x" * 40}, "response_timestamps": [2e9, 3e9],
         "response_outputs": [{"text_output": "a"}, {"text_output": " b"}]},
        {"timestamp": 1e9, "request_inputs": {"payload": '{"prompt": [1, 2, 3]}'}, "response_timestamps": [4e9],
         "response_outputs": [{"response": json.dumps(said)}]},
    ]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps({"experiments": [{"experiment": {}, "requests": requests}]}))
    table = read_result(tmp_path / "a.json").requests
    assert table.prompt_tokens.tolist() == [10, 7] and table.output_tokens.tolist() == [2, 5]
    assert table.first_token_s.tolist() == [2, 4] and table.finish_s.tolist() == [3, 4]
    for wrong in ([{"timestamp": None}], [{**requests[0], "response_timestamps": [1]}], []):
        (tmp_path / "a.json").write_text(json.dumps({"experiments": [{"requests": wrong}]}))
        with pytest.raises(DataError, match="GenAI-Perf"):
            read_result(tmp_path / "a.json")


@pytest.mark.parametrize("strategy", ["linear", "exponential"])
def test_rates_that_grow_place_requests(strategy: str, tmp_path: Path) -> None:
    number = 101
    data = {
        "backend": "vllm", "duration": 60.0, "request_rate": "inf", "max_concurrency": None, "completed": number,
        "total_input_tokens": number, "total_output_tokens": number, "ramp_up_strategy": strategy,
        "ramp_up_start_rps": 1, "ramp_up_end_rps": 4, "input_lens": [1] * number, "output_lens": [1] * number,
        "ttfts": [0.1] * number, "itls": [[]] * number, "errors": [""] * number,
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(data))
    run = read_result(tmp_path / "a.json")
    gaps = np.diff(run.requests.arrival_s)
    assert gaps[0] == pytest.approx(1.0) and gaps[-1] == pytest.approx(1 / 4, rel=0.03)
    assert gaps[50] == pytest.approx(1 / 2.5 if strategy == "linear" else 1 / 2, rel=0.01)
    assert any("while the rate grew from 1 to 4/s" in note for note in run.provenance.notes)


def test_requests_that_failed_before_they_had_a_start(tmp_path: Path) -> None:
    data = {
        **COLUMNS,
        "start_times": [T, T + 1, 0.0],
        "errors": ["", "", "Cannot connect"],
        "latencies": [0.9, 0.65, 0.0],
    }
    (tmp_path / "a.json").write_text(json.dumps(data))
    run = read_result(tmp_path / "a.json")
    assert run.window_s == 4.0 and sorted(run.requests.arrival_s.tolist()) == [0, 0, 1]


def test_answers_in_one_piece_end_when_they_came(tmp_path: Path) -> None:
    """Without a stream there is neither a first token nor gaps, only how long it took."""
    data = {**COLUMNS, "start_times": STARTS, "ttfts": [0.0] * 3, "itls": [[]] * 3, "latencies": [0.9, 0.65, 0.0]}
    (tmp_path / "a.json").write_text(json.dumps(data))
    table = read_result(tmp_path / "a.json").requests
    np.testing.assert_allclose(table.first_token_s[:2], [0.9, 1.65], atol=1e-6)
    np.testing.assert_allclose(table.finish_s[:2], [0.9, 1.65], atol=1e-6)


def test_errors_of_llmperf_without_a_code(tmp_path: Path) -> None:
    """Its clients write -1 for what failed before any answer; its own summary counts these as errors."""
    row = {"error_code": None, "error_msg": "", "ttft_s": 0.5, "end_to_end_latency_s": 1.0, "start_time": 0.0,
           "number_output_tokens": 3, "number_input_tokens": 10}  # fmt: skip
    broken = {
        **row,
        "error_code": -1,
        "ttft_s": 0,
        "end_to_end_latency_s": 0,
        "number_output_tokens": 0,
        "start_time": 1.0,
    }
    (tmp_path / "a.json").write_text(json.dumps([row, broken]))
    run = read_result(tmp_path / "a.json")
    assert run.failures == ("failed",) and summarize(run).completed == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"duration": 1.0, "completed": 2, "total_input_tokens": 9, "request_throughput": 2, "input_lens": [4, 5],
             "latencies": [0.1, 0.1], "errors": ["", ""]},
            "generate no tokens",
        ),
        ([{"metadata": AIPERF[0]["metadata"], "responses": []}], "raw answers of AIPerf"),
        ({"elapsed_time": 9.0, "num_requests": 9, "total_num_tokens": 99, "tokens_per_second": 11}, "bench throughput"),
        ({"avg_latency": 1.0, "latencies": [1.0], "percentiles": {"50": 1.0}}, "vllm bench latency, which sends no"),
        ({"input_config": {"service_kind": "openai"}, "request_latency": {}}, r"GenAI-Perf only.*_export\.json "),
        ({"input_config": {"endpoint": {"type": "chat"}}, "request_latency": {}}, r"AIPerf only.*_export\.jsonl"),
    ],
)  # fmt: skip
def test_files_without_requests_are_told_whose_they_are(data: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match=message):
        read_result(tmp_path / "a.json")


def test_compressed_files_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + FILES["vllm.json"].encode())
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(FILES["appended.jsonl"].encode()))
    assert list(read_results(tmp_path)) == ["a", "b"]


def test_aiperf_with_a_prefix_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(
        lines([{**AIPERF[0], "text": "a\u2028b"}, *AIPERF[1:]]).replace("\\u2028", "\u2028")
    )
    summary = {"input_config": {"endpoint": {"model_names": ["tiny"]}}, "request_latency": {}}
    (tmp_path / "mine_aiperf.json").write_text(json.dumps(summary))
    (run,) = read_results(tmp_path).values()
    assert run.provenance.llm == "tiny" and len(run.requests) == 3
