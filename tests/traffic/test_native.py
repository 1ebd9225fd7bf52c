"""Prometheus' native histograms tell what classic ones do: means exactly, and the spread by their buckets."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from loratwin.errors import LoratwinError
from loratwin.traffic import Sources, import_traffic
from loratwin.workload import Workload, load_spec
from tests.traffic.sent import BUCKETS, HOUR_S, START_S, sent, within

STEP_S = 300.0
SERIES = {
    "vllm:request_prompt_tokens": "prompt_tokens",
    "vllm:request_generation_tokens": "output_tokens",
}


def exponential(schema: int) -> Callable[[NDArray[Any]], list[list[Any]]]:
    """Buckets of powers of 2^(2^-schema), as a native histogram has them: open on the left."""

    def buckets(tokens: NDArray[Any]) -> list[list[Any]]:
        number = np.ceil(np.log2(tokens) * 2**schema - 1e-9).astype(int)
        ends, counts = np.unique(number, return_counts=True)
        bound = [(2 ** ((end - 1) / 2**schema), 2 ** (end / 2**schema)) for end in ends.tolist()]
        return [[0, repr(lo), repr(hi), str(n)] for (lo, hi), n in zip(bound, counts.tolist(), strict=True)]

    return buckets


def custom(tokens: NDArray[Any]) -> list[list[Any]]:
    """Classic buckets that Prometheus has made native: the first one from -Inf, the last to +Inf."""
    ends = [-math.inf, *map(float, BUCKETS), math.inf]
    counts = [int(((tokens > lo) & (tokens <= hi)).sum()) for lo, hi in pairwise(ends)]
    shown = ["-Inf", *map(str, BUCKETS), "+Inf"]
    return [[0, lo, hi, str(n)] for (lo, hi), n in zip(pairwise(shown), counts, strict=True) if n]


def results(workload: Workload, buckets_at: Callable[[float], Callable[[NDArray[Any]], list[list[Any]]]]) -> list[Any]:
    """The series of a range query every five minutes: requests as a counter, tokens as native histograms."""
    found: list[Any] = []
    ends = np.arange(0, workload.window_s + STEP_S, STEP_S)
    for i, name in enumerate(workload.adapters.name):
        who = {"model_name": name, "engine": "0", "pod": "a"}
        rows = [(workload.arrival_s < at) & (workload.adapter == i) for at in ends]
        counted = [[START_S + at, str(here.sum())] for at, here in zip(ends, rows, strict=True)]
        found.append({"metric": {"__name__": "vllm:request_success_total", **who}, "values": counted})
        for series, column in SERIES.items():
            tokens = getattr(workload, column)
            shown = [
                [START_S + at, histogram(tokens[here], buckets_at(float(at)))]
                for at, here in zip(ends, rows, strict=True)
            ]
            found.append({"metric": {"__name__": series, **who}, "histograms": shown})
    return found


def histogram(tokens: NDArray[Any], buckets: Callable[[NDArray[Any]], list[list[Any]]]) -> dict[str, Any]:
    one: dict[str, Any] = {"count": str(len(tokens)), "sum": str(tokens.sum())}
    return one | ({"buckets": buckets(tokens)} if len(tokens) else {})


def answer(series: list[Any]) -> Any:
    return {"status": "success", "data": {"resultType": "matrix", "result": series}}


def imported(folder: Path, data: Any, name: str = "a.json") -> Any:
    (folder / name).write_text(json.dumps(data))
    _, observed, _ = import_traffic(Sources((str(folder / name),)), folder / "w.yaml", "all", 3 * HOUR_S)
    return load_spec(folder / "w.yaml"), observed


def assert_as_sent(spec: Any, workload: Workload, spread: float = 0.05) -> None:
    """Rates and means of each adapter are exact, and the spread of lengths is about that of what was sent."""
    truth = within(workload, 0.0, workload.window_s)
    assert {group.adapter_names()[0] for group in spec.groups} == set(truth)
    for group in spec.groups:
        name = group.adapter_names()[0]
        rate, prompt, output = truth[name]
        assert group.rate == pytest.approx(rate, rel=1e-3)
        lengths = group.lengths.prompt
        assert lengths.mean == pytest.approx(prompt, rel=1e-4)
        told = group.lengths.output
        assert getattr(told, "mean", told) == pytest.approx(output, rel=0.02)
        tokens = workload.prompt_tokens[workload.adapter == workload.adapters.name.index(name)]
        low, high, number = np.array(lengths.bins).T
        mean = np.average((low + high) / 2, weights=number)
        std = math.sqrt(np.average(((low + high) / 2 - mean) ** 2 + (high - low) ** 2 / 12, weights=number))
        assert std / mean == pytest.approx(tokens.std() / tokens.mean(), rel=spread)


@pytest.mark.parametrize(
    ("kind", "spread"), [("exponential", 0.05), ("coarser later", 0.2), ("of classic buckets", 0.45)]
)
def test_means_and_spread_of_each_adapter(tmp_path: Path, kind: str, spread: float) -> None:
    workload = sent()

    def buckets_at(at_s: float) -> Callable[[NDArray[Any]], list[list[Any]]]:
        if kind == "of classic buckets":
            return custom
        return exponential(1 if kind == "coarser later" and at_s > 1.5 * HOUR_S else 3)

    spec, observed = imported(tmp_path, answer(results(workload, buckets_at)))
    assert_as_sent(spec, workload, spread)
    assert observed.cells.output_tokens.sum() == workload.output_tokens.sum()
    assert set(observed.prompt_buckets) == set(workload.adapters.name)


def test_a_server_that_shows_both_is_counted_once(tmp_path: Path) -> None:
    """Classic sums beside native ones, and classic ones that end where native ones begin."""
    workload = sent()
    series = results(workload, lambda _: exponential(3))
    both: list[Any] = []
    for one in series:
        name = one["metric"]["__name__"]
        if name not in SERIES:
            continue
        for part in ("sum", "count"):
            values = [[at, said[part]] for at, said in one["histograms"]]
            both.append({"metric": {**one["metric"], "__name__": f"{name}_{part}"}, "values": values})
    spec, observed = imported(tmp_path, answer(series + both))
    assert_as_sent(spec, workload)
    for one in both:
        one["values"] = one["values"][:18]
    for one in series:
        if "histograms" in one:
            one["histograms"] = one["histograms"][18:]
    _, changed = imported(tmp_path, answer(series + both))
    for seen in (observed, changed):
        assert seen.cells.prompt_tokens.sum() == workload.prompt_tokens.sum()
        assert seen.cells.output_tokens.sum() == workload.output_tokens.sum()


def test_a_restart_begins_at_zero_again(tmp_path: Path) -> None:
    workload = sent()
    series = results(workload, lambda _: custom)
    for one in series:
        shown = one.get("histograms") or one["values"]
        one["histograms" if "histograms" in one else "values"] = shown + [
            [at + 3 * HOUR_S + STEP_S, said] for at, said in shown
        ]
    _, observed = imported(tmp_path, answer(series))
    assert observed.cells.prompt_tokens.sum() == 2 * workload.prompt_tokens.sum()
    assert observed.num_requests == 2 * workload.num_requests


def test_histograms_alone_count_requests_too(tmp_path: Path) -> None:
    workload = sent()
    series = [one for one in results(workload, lambda _: exponential(3)) if "histograms" in one]
    spec, observed = imported(tmp_path, answer(series))
    assert_as_sent(spec, workload)
    assert observed.num_requests == workload.num_requests


def test_what_an_answer_holds_is_read_alone_too(tmp_path: Path) -> None:
    """As `promtool query range -o json` and clients in Python write it, and compressed."""
    workload = sent()
    series = results(workload, lambda _: custom)
    for name, data in (("list.json", series), ("data.json", answer(series)["data"]), ("one.json", [answer(series)])):
        _, observed = imported(tmp_path, data, name)
        assert observed.num_requests == workload.num_requests
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps(answer(series)).encode()))
    _, seen, _ = import_traffic(Sources((str(tmp_path / "a.json.gz"),)), tmp_path / "w.yaml", "all")
    assert seen.num_requests == workload.num_requests


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"count": "1"}, "vllm:request_prompt_tokens: a histogram is not as Prometheus writes it"),
        ({"count": "1", "sum": "x", "buckets": []}, "a histogram is not as Prometheus writes it"),
        ({"count": "1", "sum": "1", "buckets": [[0, "1", "2"]]}, "a histogram is not as Prometheus writes it"),
    ],
)
def test_a_damaged_histogram_is_one_line(tmp_path: Path, said: Any, message: str) -> None:
    series = results(sent(), lambda _: custom)
    next(one for one in series if "histograms" in one)["histograms"][3] = [START_S + 3 * STEP_S, said]
    with pytest.raises(LoratwinError, match=message) as error:
        imported(tmp_path, answer(series))
    assert "\n" not in str(error.value) and not (tmp_path / "w.yaml").exists()
