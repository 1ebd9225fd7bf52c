"""One name for a quantity of old vLLM, new vLLM and SGLang."""

from __future__ import annotations

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from loratwin.records.series import Samples, Series
from loratwin.telemetry import Counters, canonical, counters, increase
from loratwin.telemetry.exposition import Exposition
from loratwin.telemetry.names import counters_of
from tests.telemetry.metrics_server import MetricsServer

NAN = float("nan")


def samples(**series: list[float]) -> Samples:
    """Series named as keywords, `__` for a colon."""
    made = [Series(name.replace("__", ":"), (), np.array(values)) for name, values in series.items()]
    return Samples("server", np.arange(len(made[0].values), dtype=float), tuple(made))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("running", "vllm__num_requests_running"),
        ("running", "sglang__num_running_reqs"),
        ("waiting", "vllm__num_requests_waiting"),
        ("waiting", "sglang__num_queue_reqs"),
        ("kv_usage", "vllm__gpu_cache_usage_perc"),
        ("kv_usage", "vllm__kv_cache_usage_perc"),
        ("kv_usage", "sglang__token_usage"),
        ("preemptions", "vllm__num_preemptions_total"),
        ("prompt_tokens", "vllm__prompt_tokens_total"),
        ("generation_tokens", "sglang__generation_tokens_total"),
        ("max_loras", "sglang__lora_pool_slots_total"),
    ],
)
def test_names_of_engines(name: str, shown: str) -> None:
    found = canonical(samples(**{shown: [1.0, NAN, 3.0]}))
    assert list(found) == [name]
    np.testing.assert_array_equal(found[name].values, [1, NAN, 3])


def test_the_new_name_goes_before_the_old() -> None:
    found = canonical(samples(vllm__gpu_cache_usage_perc=[0.1], vllm__kv_cache_usage_perc=[0.2]))
    assert found["kv_usage"].values.tolist() == [0.2]


def test_engines_of_one_server_are_added_and_usage_averaged() -> None:
    two = [Series(name, (("engine", str(i)),), np.array([v, NAN]))
           for name, values in (("vllm:num_requests_running", (3, 4)), ("vllm:kv_cache_usage_perc", (0.2, 0.6)))
           for i, v in enumerate(values)]  # fmt: skip
    found = canonical(Samples("server", np.arange(2.0), tuple(two)))
    np.testing.assert_array_equal(found["running"].values, [7, NAN])
    np.testing.assert_allclose(found["kv_usage"].values, [0.4, NAN])


def test_reasons_are_told_apart_and_added() -> None:
    reasons = [
        Series("vllm:request_success_total", (("finished_reason", reason),), np.array(values))
        for reason, values in (("stop", [40.0, 41.0]), ("length", [3.0, 3.0]), ("abort", [NAN, 1.0]))
    ]
    found = canonical(Samples("server", np.arange(2.0), tuple(reasons)))
    assert found["requests_finished"].values.tolist() == [43, 45]
    assert found["requests_finished{length}"].values.tolist() == [3, 3]
    assert increase(found["requests_finished"]) == 2


def test_waiting_for_a_slot_is_told_apart() -> None:
    held = [
        Series("vllm:num_requests_waiting_by_reason", (("reason", reason),), np.array([value]))
        for reason, value in (("capacity", 2.0), ("deferred", 9.0))
    ]
    found = canonical(Samples("server", np.zeros(1), tuple(held)))
    assert (found["waiting_deferred"].values[0], found["waiting_capacity"].values[0]) == (9, 2)


@pytest.mark.parametrize("shown", ["vllm__inter_token_latency_seconds", "vllm__time_per_output_token_seconds"])
def test_a_histogram_is_the_mean_since_the_sample_before(shown: str) -> None:
    found = canonical(samples(**{f"{shown}_sum": [NAN, 3.0, 0.0, 5.0], f"{shown}_count": [NAN, 2.0, 0.0, 1.0]}))
    np.testing.assert_array_equal(found["itl_s"].values, [NAN, 1.5, NAN, 5.0])


def test_increase_over_a_restart() -> None:
    assert increase(Series("x", (), np.array([NAN, 10.0, 15.0, NAN, 4.0, 6.0]))) == 5 + 4 + 2
    assert np.isnan(increase(Series("x", (), np.array([NAN, 10.0]))))


def test_counters_of_a_server(server: MetricsServer) -> None:
    Counter("vllm:prompt_tokens", "", registry=server.registry).inc(2_234_543)
    finished = Counter("vllm:request_success", "", ["finished_reason"], registry=server.registry)
    for number, reason in ((40, "stop"), (2, "length"), (1, "abort")):
        finished.labels(reason).inc(number)
    told = counters(f"{server.url}/v1")
    assert told == Counters(2_234_543, None, {"abort": 1, "length": 2, "stop": 40}, None)


def test_counters_of_sglang() -> None:
    registry = CollectorRegistry()
    for name, value in (("prompt_tokens", 5), ("generation_tokens", 6), ("num_requests", 7)):
        Counter(f"sglang:{name}", "", ["model_name"], registry=registry).labels("m").inc(value)
    Gauge("sglang:num_retracted_reqs", "", registry=registry).set(3)
    Histogram("sglang:queue_time_seconds", "", registry=registry)
    assert counters_of(Exposition().read(generate_latest(registry).decode())) == Counters(5, 6, {"": 7}, None)


def test_counters_of_a_server_that_is_silent(server: MetricsServer) -> None:
    server.status = 500
    assert counters(server.url) == Counters()
