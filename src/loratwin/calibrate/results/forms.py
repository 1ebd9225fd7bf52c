"""What other load clients write, form by form: from plain data to `BenchmarkResult`; None where it is another's.

Read in their sources and documentation: vLLM `benchmarks/benchmark_serving.py` (0.6 to 0.9) and, later,
`vllm/benchmarks/serve.py`, SGLang `bench_serving.py`, GuideLLM `benchmark/benchmark.py`, `schemas/request_stats.py`,
AIPerf (tutorial on profile exports), inference-perf `apis/base.py`, LLMPerf `token_benchmark_ray.py` and its clients.
GenAI-Perf's is `genai_perf.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from loratwin.calibrate.results.genai_perf import genai_perf_form
from loratwin.calibrate.results.table import BenchmarkResult, Sent, starts
from loratwin.errors import DataError

NAN = float("nan")

GUESSED_STARTS = "start times are not in the file: {how}; queues and their times in the twin rest on that"


# --- vllm bench serve and SGLang's bench_serving: columns


_COLUMNS = ("input_lens", "output_lens", "ttfts", "itls")
_POOLING = {"total_input_sequences", "input_lens"}
"""What results of requests without tokens have, beside those that all have."""
_OFFLINE = {
    "vllm bench throughput": {"elapsed_time", "num_requests", "tokens_per_second"},
    "vllm bench latency": {"avg_latency", "latencies", "percentiles"},
}
"""What its other commands write with --output-json."""
_TELLING = ("input_lens", "ttfts", "request_throughput", "total_input_tokens", "mean_ttft_ms")


def columns_form(data: Any, where: str) -> list[BenchmarkResult] | None:
    """`vllm bench serve --save-result`, a line of `--append-result`, and a line of SGLang's `--output-file`.

    Raises
    ------
    DataError
        It is such a result, but tells no single requests, or something impossible.
    """
    if not isinstance(data, dict):
        return None
    for other, keys in _OFFLINE.items():
        if keys <= data.keys():
            raise DataError(f"{where}: is of {other}, which sends no requests over time; vllm bench serve does")
    if "duration" not in data or not any(name in data for name in _TELLING):
        return None
    sglang = "sglang" in str(data.get("backend", "")) or "total_output_tokens_retokenized" in data
    tool, option = ("SGLang's bench_serving", "--output-details") if sglang else ("vllm bench serve", "--save-detailed")
    missing = [name for name in _COLUMNS if name not in data]
    if "output_lens" in missing and "ttfts" in missing and _POOLING & data.keys() and "total_output_tokens" not in data:
        raise DataError(f"{where}: is of requests that generate no tokens (embeddings, classes, scores)")
    if missing:
        raise DataError(
            f"{where}: {missing[0]} is missing: it has means of {tool} only, no single requests; {tool} writes them "
            f"with {option}"
        )
    lengths = {name: _length(data, name, where) for name in (*_COLUMNS, *_optional(data))}
    if len(set(lengths.values())) != 1 or not lengths["ttfts"]:
        raise DataError(f"{where}: columns of different or no length ({lengths})")
    duration = _duration(data, tool, where)
    requests = _column_rows(data, tool, where)
    notes = [] if "start_times" in data else [_guess_starts(data, requests, where)]
    llm = _first(data, "model_id", "model", "server_info.model_path")
    return [BenchmarkResult(tool, requests, duration, str(llm or ""), notes=notes)]


def _optional(data: Mapping[str, Any]) -> list[str]:
    return [name for name in ("start_times", "errors", "latencies") if name in data]


def _length(data: Mapping[str, Any], name: str, where: str) -> int:
    if not isinstance(data[name], list):
        raise DataError(f"{where}: {name} must be a list, one entry for each request")
    return len(data[name])


def _duration(data: Mapping[str, Any], tool: str, where: str) -> float:
    try:
        duration = float(data["duration"])
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: not a result of {tool} ({error})") from None
    if not 0 < duration < math.inf:
        raise DataError(f"{where}: duration ({duration:g}) must be above 0")
    return duration


def _column_rows(data: Mapping[str, Any], tool: str, where: str) -> list[Sent]:
    number = len(data["ttfts"])
    try:
        ttft, prompt, output = (
            np.array(data[name], dtype=np.float64) for name in ("ttfts", "input_lens", "output_lens")
        )
        start = np.array(data.get("start_times", [0.0] * number), dtype=np.float64)
        latency = np.array(data.get("latencies", [0.0] * number), dtype=np.float64)
        gaps = [np.array(gaps_s, dtype=np.float64) for gaps_s in data["itls"]]
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: not a result of {tool} ({error})") from None
    if not np.isfinite(start).all():
        raise DataError(f"{where}: start_times must be finite")
    if any(request_gaps.ndim != 1 or not (request_gaps >= 0).all() for request_gaps in gaps) or not (ttft >= 0).all():
        raise DataError(f"{where}: ttfts and itls must be seconds, 0 or more")
    if any(not ((lengths >= 0) & (lengths < 2**31) & (lengths % 1 == 0)).all() for lengths in (prompt, output)):
        raise DataError(f"{where}: input_lens and output_lens must be whole numbers of tokens")
    errors = data.get("errors") or [""] * number
    streams = (ttft > 0) | np.array([len(request_gaps) > 0 for request_gaps in gaps], dtype=bool)
    _put_right(start, ttft, errors)
    return [
        Sent(
            start_s=start[i],
            first_s=start[i] + (ttft[i] if streams[i] else latency[i]),
            end_s=start[i] + max(ttft[i] + gaps[i].sum(), latency[i]),
            prompt_tokens=int(prompt[i]),
            output_tokens=int(output[i]),
            failure=_failure(errors[i], ttft[i], output[i]),
            gaps_s=tuple(gaps[i].tolist()) if streams[i] or output[i] <= 1 else None,
        )
        for i in range(number)
    ]


def _failure(error: Any, ttft: float, output: float) -> str:
    """A request without a token and without an error failed, too: so old versions write it."""
    return "failed" if error or (ttft == 0 and output == 0) else ""


def _put_right(start: np.ndarray, ttft: np.ndarray, errors: Sequence[Any]) -> None:
    """Requests that failed before their start was noted have 0 there: they start with the first that has one."""
    known = start > 0
    if known.any():
        start[~known & ((ttft == 0) | np.array([bool(error) for error in errors]))] = start[known].min()


def _guess_starts(data: Mapping[str, Any], requests: list[Sent], where: str) -> str:
    """Start times by the rate and the concurrency that the file tells; what was done is said."""
    rate, concurrency = _rate(data.get("request_rate")), _count(data.get("max_concurrency"))
    ramp = _ramp(data, len(requests))
    if ramp is not None:
        move(requests, ramp, concurrency)
        how = f"evenly while the rate grew from {data['ramp_up_start_rps']} to {data['ramp_up_end_rps']}/s"
        return GUESSED_STARTS.format(how=how if concurrency is None else f"{how}, {_most(concurrency)}")
    if rate is None and concurrency is None:
        raise DataError(
            f"{where}: it tells neither start_times (vllm bench serve writes them since 0.11) nor request_rate and "
            "max_concurrency, so nobody knows what ran at the same time"
        )
    move(requests, math.inf if rate is None else rate, concurrency)
    return GUESSED_STARTS.format(how=_how(math.inf if rate is None else rate, concurrency))


def move(requests: Sequence[Sent], rate_per_s: float | Sequence[float], concurrency: int | None) -> None:
    """Give requests that all start at 0 the times at which a client in this order would have sent them."""
    spans = [0.0 if one.failure else one.end_s - one.start_s for one in requests]
    for one, start in zip(requests, starts(spans, rate_per_s, concurrency), strict=True):
        one.start_s, one.first_s, one.end_s = one.start_s + start, one.first_s + start, one.end_s + start


def _ramp(data: Mapping[str, Any], number: int) -> list[float] | None:
    """The rate at each request where it grows (`--ramp-up-strategy`), by the number of requests; None: it does not."""
    first, last = _rate(data.get("ramp_up_start_rps")), _rate(data.get("ramp_up_end_rps"))
    if data.get("ramp_up_strategy") not in ("linear", "exponential") or last is None:
        return None
    share = np.linspace(0.0, 1.0, number) if number > 1 else np.zeros(1)
    if data["ramp_up_strategy"] == "exponential" and first is not None:
        return [float(rate) for rate in first * (last / first) ** share]
    return [float(rate) for rate in np.maximum((first or 0.0) + (last - (first or 0.0)) * share, last / 100)]


def _how(rate: float, concurrency: int | None) -> str:
    sent = "sent all at once" if rate == math.inf else f"evenly at {rate:g}/s"
    return sent if concurrency is None else f"{sent}, {_most(concurrency)}"


def _most(concurrency: int) -> str:
    return f"no more than {concurrency} at a time"


def _rate(said: Any) -> float | None:
    """A number above 0, "inf" included; None: not said."""
    try:
        rate = float(said)
    except (TypeError, ValueError):
        return None
    return rate if rate > 0 else None


def _count(said: Any) -> int | None:
    return int(said) if isinstance(said, int | float) and not isinstance(said, bool) and 0 < said < math.inf else None


# --- GuideLLM


def guidellm_form(data: Any, where: str) -> list[BenchmarkResult] | None:
    """A report of GuideLLM: all its benchmarks, each a result of its own.

    Raises
    ------
    DataError
        Its requests were not kept.
    """
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        return None
    benchmarks = [benchmark for benchmark in data["benchmarks"] if isinstance(benchmark, dict)]
    nested = [one for benchmark in benchmarks for one in benchmark.get("benchmarks", []) if isinstance(one, dict)]
    results = [_guidellm(benchmark, i, data) for i, benchmark in enumerate(nested or benchmarks)]
    kept = [result for result in results if result.requests]
    if not kept:
        raise DataError(
            f"{where}: no single request of GuideLLM is in it, only statistics; they are in its JSON output"
        )
    return kept


def _guidellm(benchmark: Mapping[str, Any], i: int, report: Mapping[str, Any]) -> BenchmarkResult:
    requests: list[Sent] = []
    kinds = benchmark.get("requests")
    if isinstance(kinds, dict):
        for kind in ("successful", "errored", "incomplete"):
            requests += [_guidellm_request(one, kind) for one in kinds.get(kind) or [] if isinstance(one, dict)]
    elif isinstance(kinds, list):
        requests += [_guidellm_request(one, "successful") for one in kinds if isinstance(one, dict)]
    for one in benchmark.get("results") or []:  # before 0.2
        requests.append(_guidellm_request(one, "successful"))
    requests = [one for one in requests if math.isfinite(one.start_s)]
    llm = _first(benchmark, "worker.backend_model", "config.backend.model", "backend.model", "args.model")
    llm = llm or _first(report, "args.model", "args.backend_kwargs.model", "metadata.model", "backend.model") or ""
    rate = _first(benchmark, "args.strategy.type_", "config.strategy.type_", "scheduler.strategy.type_", "mode")
    return BenchmarkResult("GuideLLM", requests, llm=str(llm), name=f"{i}-{rate}" if rate else str(i))


def _guidellm_request(one: Mapping[str, Any], kind: str) -> Sent:
    """Times of any version: of the request, of `info.timings`, or of `scheduler_info.request_timings`."""
    at = "info.timings", "scheduler_info.request_timings", "info.request_timings", "timings"
    start = _time(one, "start_time", "request_start_time", *(f"{place}.request_start" for place in at),
                  *(f"{place}.resolve_start" for place in at))  # fmt: skip
    first = _time(one, "first_token_time", *(f"{place}.first_token_iteration" for place in at),
                  *(f"{place}.first_iteration" for place in at))  # fmt: skip
    end = _time(one, "last_token_time", *(f"{place}.last_token_iteration" for place in at),
                *(f"{place}.last_iteration" for place in at), "end_time", "request_end_time",
                *(f"{place}.request_end" for place in at), *(f"{place}.resolve_end" for place in at))  # fmt: skip
    ttft = _time(one, "time_to_first_token_ms") / 1e3
    if math.isfinite(first) and first < start:  # 0.1 has it from the start of the request
        first += start
    first = start + ttft if math.isfinite(ttft) and not math.isfinite(first) else first
    latency = _time(one, "request_latency")
    end = start + latency if math.isfinite(latency) and not math.isfinite(end) else end
    steps = _first(one, "decode_times.data")
    error = str(_first(one, "error", "info.error") or "") if kind == "errored" else ""
    return Sent(
        start_s=start,
        first_s=end if not math.isfinite(first) and kind == "successful" else first,
        end_s=end,
        prompt_tokens=_tokens(one, "prompt_tokens", "input_metrics.total_tokens", "input_metrics.text_tokens",
                              "prompt_token_count"),
        output_tokens=_tokens(one, "output_tokens", "output_metrics.total_tokens", "output_metrics.text_tokens",
                              "output_token_count"),
        failure=_kind_of(error) if kind == "errored" else "",
        unfinished=kind == "incomplete",
        model=_model_of(one.get("request_args")),
        gaps_s=tuple(map(float, steps)) if isinstance(steps, list) else None,
    )  # fmt: skip


def _model_of(said: Any) -> str:
    """The model in a request's body, which may be text."""
    if isinstance(said, str):
        try:
            said = json.loads(said)
        except ValueError:
            return ""
    if not isinstance(said, dict):
        return ""
    return str(_first(said, "model", "body.model", "json.model", "payload.model") or "")


# --- AIPerf


def aiperf_form(rows: Any, where: str) -> list[BenchmarkResult] | None:
    """Lines of `profile_export.jsonl`.

    Raises
    ------
    DataError
        It is the summary beside it, or has no request of the profiling phase.
    """
    if isinstance(rows, dict) and "input_config" in rows and "request_latency" in rows:
        raise DataError(f"{where}: it has means of {_summary_of(rows['input_config'])} beside it")
    if not isinstance(rows, list) or not rows or not all(_is_aiperf(row) for row in rows):
        return None
    if not any("metrics" in row for row in rows):
        raise DataError(f"{where}: raw answers of AIPerf, without its figures, which are in profile_export.jsonl")
    kept = [row for row in rows if row["metadata"].get("benchmark_phase", "profiling") == "profiling"]
    if not kept:
        raise DataError(f"{where}: no request of the profiling phase is in it")
    return [BenchmarkResult("AIPerf", [_aiperf_request(row) for row in kept])]


def _summary_of(config: Any) -> str:
    """Whose summary it is: GenAI-Perf's, from before AIPerf, says the kind of service."""
    places = (config, config.get("endpoint")) if isinstance(config, dict) else ()
    old = any(isinstance(place, dict) and "service_kind" in place for place in places)
    name, file = ("GenAI-Perf", "profile_export.json") if old else ("AIPerf", "profile_export.jsonl")
    return f"{name} only; its requests are in {file}"


def _is_aiperf(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("metadata"), dict) and "request_start_ns" in row["metadata"]


def _aiperf_request(row: Mapping[str, Any]) -> Sent:
    about, metrics, error = row["metadata"], row.get("metrics") or {}, row.get("error")
    start, end = (_number(about.get(name)) / 1e9 for name in ("request_start_ns", "request_end_ns"))
    latency, ttft = (_metric(metrics, name) for name in ("request_latency", "time_to_first_token"))
    end = start + latency if math.isfinite(latency) else end
    gaps = metrics.get("inter_chunk_latency")
    values = gaps.get("value") if isinstance(gaps, dict) else gaps
    unit = _UNITS.get(str(gaps.get("unit", "ms"))) if isinstance(gaps, dict) else 1e-3
    failed = bool(error) or bool(about.get("was_cancelled"))
    kind = str((error.get("code") or error.get("type") if isinstance(error, dict) else error) or "cancelled")
    return Sent(
        start_s=start,
        first_s=start + ttft if math.isfinite(ttft) else end,
        end_s=end,
        prompt_tokens=_whole(_metric(metrics, "input_sequence_length", "error_isl", "input_token_count")),
        output_tokens=_whole(_metric(metrics, "output_sequence_length", "output_token_count")),
        failure=_kind_of(kind) if failed else "",
        model=str(about.get("model_name") or about.get("model") or ""),
        gaps_s=tuple(_number(gap) * (unit or 1e-3) for gap in values) if isinstance(values, list) else None,
    )


_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}


def _metric(metrics: Mapping[str, Any], *names: str) -> float:
    """The first that is there, in seconds where it has a unit of time; a plain number of a latency is in ms."""
    for name in names:
        said = metrics.get(name)
        if said is None:
            continue
        value, unit = (said.get("value"), said.get("unit")) if isinstance(said, dict) else (said, None)
        is_time = name.endswith(("latency", "first_token"))
        return _number(value) * (_UNITS.get(str(unit), 1e-3) if is_time else 1.0)
    return NAN


# --- inference-perf


def inference_perf_form(rows: Any, where: str) -> list[BenchmarkResult] | None:
    """`per_request_lifecycle_metrics.json`.

    Raises
    ------
    DataError
        It is a summary.
    """
    if isinstance(rows, dict) and "load_summary" in rows and "successes" in rows:
        raise DataError(
            f"{where}: it has means of inference-perf only; its requests are in per_request_lifecycle_metrics.json "
            "(report: request_lifecycle: per_request: true)"
        )
    if not isinstance(rows, list) or not rows or not all(_is_lifecycle(row) for row in rows):
        return None
    return [BenchmarkResult("inference-perf", [_lifecycle_request(row) for row in rows])]


def _is_lifecycle(row: Any) -> bool:
    return isinstance(row, dict) and {"start_time", "end_time", "info"} <= row.keys()


def _lifecycle_request(row: Mapping[str, Any]) -> Sent:
    info = row.get("info") or {}
    times = _first(info, "response_metrics.output_token_times", "output_token_times") or []
    times = [float(time) for time in times] or [
        float(time) for time in _first(info, "response_metrics.chunk_times") or []
    ]
    end, error = _number(row["end_time"]), row.get("error")
    kind = str(error.get("error_type") or "failed") if isinstance(error, dict) else str(error or "")
    return Sent(
        start_s=_number(row["start_time"]),
        first_s=times[0] if times else end,
        end_s=max(end, times[-1]) if times else end,
        prompt_tokens=_tokens(info, "input_tokens", "request_metrics.text.input_tokens",
                              "response_metrics.server_usage.prompt_tokens"),
        output_tokens=_tokens(info, "response_metrics.output_tokens", "output_tokens",
                              "response_metrics.server_usage.completion_tokens") or len(times),
        failure=_kind_of(kind) if error else "",
        adapter=str(info.get("lora_adapter") or ""),
        model=_model_of(row.get("request") or row.get("request_data")),
        gaps_s=tuple(np.diff(times).tolist()) if times else None,
    )  # fmt: skip


# --- LLMPerf


def llmperf_form(rows: Any, where: str) -> list[BenchmarkResult] | None:
    """`..._individual_responses.json`.

    Raises
    ------
    DataError
        It is the summary beside it.
    """
    if isinstance(rows, dict) and ("results_ttft_s_mean" in rows or "results_end_to_end_latency_s_mean" in rows):
        raise DataError(f"{where}: it has means of LLMPerf only; its requests are in ..._individual_responses.json")
    if not isinstance(rows, list) or not rows or not all(_is_llmperf(row) for row in rows):
        return None
    return [BenchmarkResult("LLMPerf", [_llmperf_request(row) for row in rows])]


def _is_llmperf(row: Any) -> bool:
    return isinstance(row, dict) and "end_to_end_latency_s" in row and "ttft_s" in row


def _llmperf_request(row: Mapping[str, Any]) -> Sent:
    start = _time(row, "start_time", "start_time_s", "request_start_time", "request_start_time_s")
    start = start if math.isfinite(start) else 0.0
    ttft, e2e = _number(row["ttft_s"]), _number(row["end_to_end_latency_s"])
    error = row.get("error_code")
    return Sent(
        start_s=start,
        first_s=start + ttft,
        end_s=start + max(e2e, ttft),
        prompt_tokens=_tokens(row, "number_input_tokens"),
        output_tokens=_tokens(row, "number_output_tokens"),
        failure="" if error in (None, "") else "failed" if error == -1 else f"HTTP {error}",  # -1: before any answer
    )


FORMS: tuple[Callable[[Any, str], list[BenchmarkResult] | None], ...] = (
    columns_form, guidellm_form, aiperf_form, inference_perf_form, llmperf_form, genai_perf_form,
)  # fmt: skip


# --- small helpers


def _first(data: Any, *paths: str) -> Any:
    """The first of these that is there and not None; dots lead into mappings."""
    for path in paths:
        value = data
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def _number(said: Any) -> float:
    try:
        return float(said)
    except (TypeError, ValueError):
        return NAN


def _time(data: Any, *paths: str) -> float:
    return _number(_first(data, *paths))


def _whole(value: float) -> int:
    return round(value) if math.isfinite(value) else 0


def _tokens(data: Any, *paths: str) -> int:
    return _whole(_number(_first(data, *paths)))


def _kind_of(error: str) -> str:
    """A kind of failure: the first words of what was said."""
    return " ".join(error.split())[:60] or "failed"
