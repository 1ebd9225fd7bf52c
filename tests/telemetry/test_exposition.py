"""Reading a page: the same as prometheus_client's parser, the first time and later."""

from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from loratwin.errors import DataError
from loratwin.telemetry.exposition import ADAPTERS_RUNNING, ADAPTERS_WAITING, MAX_LORAS, MOST_SERIES, Exposition
from loratwin.telemetry.table import Kind


def page() -> str:
    """As a server shows it: exponents, NaN, infinity, labels with everything that is hard to read."""
    registry = CollectorRegistry()
    Counter("vllm:prompt_tokens", "Tokens.", ["model_name"], registry=registry).labels("a").inc(2_234_543)
    finished = Counter("vllm:request_success", "Done.", ["finished_reason"], registry=registry)
    for number, reason in enumerate(["stop", "length", "abort"], 1):
        finished.labels(reason).inc(number)
    gauge = Gauge("hard", "Labels.", ["text"], registry=registry)
    for text, value in (("a b", 1e-9), ('"}', math.inf), ("\\n\n", math.nan), ("{x=\u2028", -1.5e300), ("", 0.1)):
        gauge.labels(text).set(value)
    histogram = Histogram("vllm:time_to_first_token_seconds", "TTFT.", registry=registry, buckets=(0.1, 1.0))
    for value in (0.05, 0.5, 5):
        histogram.observe(value)
    return generate_latest(registry).decode()


def test_the_same_as_the_library() -> None:
    expected = {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    exposition = Exposition()
    for _ in range(2):  # the second time the series are known
        found = {(key.name, key.labels): value for key, value in exposition.read(page()).items()}
        assert found.keys() == expected.keys()
        assert list(found.values()) == pytest.approx(list(expected.values()), rel=0, abs=0, nan_ok=True)


def test_a_counter_above_a_million() -> None:
    values = {key.name: value for key, value in Exposition().read(page()).items()}
    assert values["vllm:prompt_tokens_total"] == 2_234_543


def test_kinds() -> None:
    kinds = {key.name: key.kind for key in Exposition().read(page())}
    assert kinds["vllm:prompt_tokens_total"] is Kind.COUNTER
    assert kinds["hard"] is Kind.GAUGE
    names = [f"vllm:time_to_first_token_seconds_{part}" for part in ("bucket", "sum", "count")]
    assert {kinds[name] for name in names} == {Kind.HISTOGRAM}


def test_the_latest_combination_of_adapters_becomes_three_numbers() -> None:
    """The value is the time at which it held; old vLLM keeps one series for each combination that ever was."""
    lines = ["# TYPE vllm:lora_requests_info gauge"]
    for number in range(3000):
        latest = 2 if number == 1500 else 1
        labels = f'max_lora="8",running_lora_adapters="a{number},b",waiting_lora_adapters="{"c" * (latest == 2)}"'
        lines.append(f"vllm:lora_requests_info{{{labels}}} {latest}e9")
    exposition = Exposition()
    assert exposition.read("\n".join(lines)) == {ADAPTERS_RUNNING: 2, ADAPTERS_WAITING: 1, MAX_LORAS: 8}
    assert not exposition._keys, "combinations must not pile up in memory"


def test_labels_without_end_are_cut() -> None:
    exposition = Exposition()
    for start in range(0, 2 * MOST_SERIES, MOST_SERIES):
        values = exposition.read("\n".join(f'x{{i="{i}"}} 1' for i in range(start, start + MOST_SERIES)))
    assert not values and exposition.cut and len(exposition._keys) == MOST_SERIES


def test_a_time_stamp_after_the_value() -> None:
    assert list(Exposition().read('x{a="1"} 3.5 1395066363000\ny 4\n').values()) == [3.5, 4]


@pytest.mark.parametrize("text", ["<html>\n", "x", "x y", 'x{a="1} 3', 'x{a="1"}', "x{a=1} 3", '{"error": 1}'])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="not a line of Prometheus' text format"):
        Exposition().read(text)
