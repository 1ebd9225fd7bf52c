"""Logs and metrics become workloads that send what was sent."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from loratwin.errors import LoratwinError
from loratwin.http import ask
from loratwin.perf import load_profile
from loratwin.simulate import server_configs, simulate
from loratwin.traffic import Sources, import_traffic
from loratwin.traffic.importing import observe
from loratwin.traffic.pages import is_page
from loratwin.traffic.series import Counted
from loratwin.workload import Workload, draw, load_spec
from tests.cli.program import loratwin
from tests.traffic.prometheus_server import needs_prometheus, prometheus
from tests.traffic.sent import HOUR_S, SPEC, START_S, as_log, open_metrics, page, sent, within

PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"


def imported(folder: Path, *places: str | Path, hours: Any = "busiest", window_s: float = HOUR_S, **how: Any) -> Any:
    """The workload of a source, and what it is made of."""
    output = folder / "w.yaml"
    _, observed, chosen = import_traffic(Sources(tuple(map(str, places)), **how), output, hours, window_s)
    return load_spec(output), observed, chosen


def assert_the_same(spec: Any, workload: Workload, first_s: float, length_s: float = HOUR_S) -> None:
    """Rates and mean lengths of each adapter within 2 % of what was sent, in the file and in what is drawn from it."""
    truth = within(workload, first_s, length_s)
    assert {name for group in spec.groups for name in group.adapter_names()} == set(truth)
    for group in spec.groups:
        rate, prompt, output = truth[group.adapter_names()[0]]
        assert group.rate == pytest.approx(rate, rel=0.02)
        drawn = draw(spec.model_copy(update={"window_s": 200_000.0, "groups": (group,)}), 1)
        assert drawn.prompt_tokens.mean() == pytest.approx(prompt, rel=0.02)
        assert drawn.output_tokens.mean() == pytest.approx(output, rel=0.02)


def test_a_log_becomes_a_workload(tmp_path: Path) -> None:
    workload = sent()
    spec, observed, chosen = imported(tmp_path, as_log(workload, tmp_path / "log.jsonl"))
    first_s = workload.arrival_s[0] + chosen.first * observed.step_s
    assert HOUR_S * 0.8 < first_s < HOUR_S * 1.2, "the hour in the middle has most"
    assert_the_same(spec, workload, first_s)
    bursty = next(group for group in spec.groups if group.name.startswith("bursty"))
    assert bursty.arrivals.kind == "gamma" and bursty.arrivals.cv == pytest.approx(3, rel=0.25)
    assert next(group for group in spec.groups if group.name == "busy-0").arrivals.kind == "poisson"
    text = (tmp_path / "w.yaml").read_text()
    assert "ranks: every adapter is taken to have rank 8" in text and "--base NAME" in text


def test_which_hours(tmp_path: Path) -> None:
    log = as_log(sent(), tmp_path / "log.jsonl")
    rates = {}
    for hours in ("busiest", "median", "all"):
        spec, _, chosen = imported(tmp_path, log, hours=hours)
        rates[hours] = spec.total_rate_per_s
    assert rates["median"] < rates["busiest"]
    assert chosen.first == 0 and spec.window_s == pytest.approx(3 * HOUR_S, abs=120)
    busy = next(group for group in spec.groups if group.name == "busy-0")
    assert np.array(busy.arrivals.relative_rates) / busy.arrivals.relative_rates[0] == pytest.approx(
        [1, 2, 1.5], rel=0.15
    )


def test_a_name_can_be_the_llm_itself(tmp_path: Path) -> None:
    log = as_log(sent(), tmp_path / "log.jsonl")
    spec, _, _ = imported(tmp_path, log, base=("busy-0",))
    assert spec.base.rate > 0.9 and "busy-0" not in {name for group in spec.groups for name in group.adapter_names()}
    assert "--base NAME" not in (tmp_path / "w.yaml").read_text()
    with pytest.raises(LoratwinError, match="nothing is named 'llm'; there are b"):
        imported(tmp_path, log, base=("llm",))


def test_a_folder_of_adapters_tells_their_ranks(tmp_path: Path) -> None:
    for name, config in (
        ("busy-0", {"r": 16}),
        ("busy-1", {"r": 8, "rank_pattern": {"q_proj": 64}}),
        ("other", {"r": 4}),
    ):
        (tmp_path / "adapters" / name).mkdir(parents=True)
        (tmp_path / "adapters" / name / "adapter_config.json").write_text(json.dumps(config))
    log = as_log(sent(), tmp_path / "log.jsonl")
    spec, _, _ = imported(tmp_path, log, lora_folder=tmp_path / "adapters")
    ranks = {group.name: int(group.rank_of_each()[0]) for group in spec.groups}
    assert ranks == {"busy-0": 16, "busy-1": 64, "busy-2": 8, "bursty-0": 8}
    text = (tmp_path / "w.yaml").read_text()
    assert "ranks of bursty-0, busy-2: not in the folder; taken for 8" in text
    with pytest.raises(LoratwinError, match="log.jsonl: no such folder"):
        imported(tmp_path, log, lora_folder=log)
    (tmp_path / "adapters" / "busy-0" / "adapter_config.json").write_text("{}")
    with pytest.raises(LoratwinError, match="busy-0/adapter_config.json: r, the rank, must be a whole number"):
        imported(tmp_path, log, lora_folder=tmp_path / "adapters")


def test_few_requests_have_the_lengths_of_all_scaled_to_their_mean(tmp_path: Path) -> None:
    spec = json.loads(json.dumps(SPEC))
    spec["groups"].append({"name": "rare", "count": 1, "rate": 0.0012, "lengths": {"prompt": 900, "output": 9}})
    workload = sent(spec)
    found, _, _ = imported(tmp_path, as_log(workload, tmp_path / "log.jsonl"), hours="all")
    rare = next(group for group in found.groups if group.name == "rare-0")
    assert rare.lengths.prompt.mean == pytest.approx(900) and rare.lengths.output.mean == pytest.approx(9)
    assert "lengths of 1 adapters: fewer than 20 requests" in (tmp_path / "w.yaml").read_text()


def test_many_adapters_over_a_day_take_the_room_of_their_requests(tmp_path: Path) -> None:
    """20,000 adapters have 29 million minutes in a day; only those in which something was asked are kept."""
    names = [f"a{i % 20_000}" for i in range(40_000)]
    rows = [f"{2.16 * i:.2f},{name},{10 + i % 7},5" for i, name in enumerate(names)]
    (tmp_path / "log.csv").write_text("\n".join(["arrival_s,adapter,prompt_tokens,output_tokens", *rows]))
    seen = observe(Sources((str(tmp_path / "log.csv"),)))
    assert len(seen.names) == 20_000 and seen.cells.num_steps == 1440 and len(seen.cells.requests) <= 40_000
    assert seen.num_requests == 40_000 and seen.cells.output_tokens.sum() == 200_000
    assert seen.cells.by_step(seen.cells.requests).max() == pytest.approx(28, abs=1)
    assert set(seen.cells.by_adapter(seen.cells.requests)) == {2.0}


def test_two_pages_and_one(tmp_path: Path) -> None:
    workload = sent()
    for number, at_s in enumerate((HOUR_S, 2 * HOUR_S)):
        (tmp_path / f"{number}.prom").write_text(page(workload, at_s))
    pages = tmp_path / "0.prom", tmp_path / "1.prom"
    spec, _, _ = imported(tmp_path, *pages, seconds=HOUR_S)
    assert_the_same(spec, workload, HOUR_S)
    spec, _, _ = imported(tmp_path, pages[1], seconds=2 * HOUR_S)
    assert_the_same(spec, workload, 0.0, 2 * HOUR_S)
    with pytest.raises(LoratwinError, match="does not say when the server was started; --seconds"):
        imported(tmp_path, pages[1])
    pages[1].write_text(page(workload, 2 * HOUR_S) + f"process_start_time_seconds {START_S}\n")
    os.utime(pages[1], (START_S + 2 * HOUR_S, START_S + 2 * HOUR_S))
    spec, _, _ = imported(tmp_path, pages[1])
    assert_the_same(spec, workload, 0.0, 2 * HOUR_S)
    os.utime(pages[0], (START_S + HOUR_S, START_S + HOUR_S))
    with pytest.raises(LoratwinError, match="give the earlier page first"):
        imported(tmp_path, *reversed(pages))


@needs_prometheus
def test_a_real_prometheus_with_two_pods_one_of_which_restarts(tmp_path: Path) -> None:
    """What two servers were sent, scraped each minute, is what the workload asks for, and what the twin serves."""
    pods = {"a": sent(seed=1), "b": sent(seed=2)}
    (tmp_path / "p").mkdir()
    end_s = START_S + 3 * HOUR_S
    with prometheus(tmp_path / "p", open_metrics(pods, 60.0, {"b": 5400.0})) as url:
        spec, observed, chosen = imported(tmp_path, url, since_s=3 * HOUR_S, end_s=end_s)
        names = "vllm:request_success_total", "vllm:prompt_tokens_total", "vllm:generation_tokens_total"
        answers = [
            ask(url, f"/api/v1/query_range?query={name}&start={START_S}&end={end_s}&step=60").json() for name in names
        ]
        one_pod, _, _ = imported(tmp_path, url, since_s=3 * HOUR_S, end_s=end_s, matchers='pod="a"')
        with pytest.raises(LoratwinError, match="has no series that counts requests"):
            imported(tmp_path, url, since_s=3 * HOUR_S, end_s=end_s, matchers='pod="c"')
        with pytest.raises(LoratwinError, match="parse error"):
            imported(tmp_path, url, since_s=3 * HOUR_S, end_s=end_s, matchers="pod=")
    first_s = chosen.first * observed.step_s
    both = joined(pods["a"], pods["b"])
    assert_the_same(spec, both, first_s)
    assert one_pod.total_rate_per_s == pytest.approx(spec.total_rate_per_s / 2, rel=0.1)

    (tmp_path / "saved.json").write_text(json.dumps(answers))
    saved, observed, chosen = imported(tmp_path, tmp_path / "saved.json")
    assert_the_same(saved, both, chosen.first * observed.step_s)
    assert "only the mean is known" in (tmp_path / "w.yaml").read_text()

    profile = load_profile(PROFILE)
    run = simulate(draw(spec, 3), profile, server_configs(spec, profile)[0])
    truth = within(both, first_s)
    for i, name in enumerate(run.adapters.name):
        rows = run.requests.adapter == i
        rate, prompt, _ = truth[name]
        chance = 4 / np.sqrt(rows.sum())  # of one drawn hour; the rates themselves are compared above
        assert rows.sum() / HOUR_S == pytest.approx(rate, rel=max(0.02, 2 * chance))
        assert run.requests.prompt_tokens[rows].mean() == pytest.approx(prompt, rel=max(0.02, chance))


def joined(one: Workload, other: Workload) -> Workload:
    """Requests of two workloads of the same adapters."""
    columns = ("arrival_s", "adapter", "prompt_tokens", "output_tokens")
    both: dict[str, Any] = {key: np.concatenate([getattr(one, key), getattr(other, key)]) for key in columns}
    return replace(one, **both)


def test_a_counter_that_starts_again_and_one_that_comes_later() -> None:
    nan = np.nan
    assert grown([5.0, 7, 1, 3]) == [2, 1, 2]
    assert grown([nan, nan, 4, 5]) == [0, 4, 1]
    assert grown([nan, nan, 4, 5], server_from=2) == [0, 0, 1]
    assert grown([1.0, nan, nan, 4]) == [0, 0, 3]
    assert grown([nan, nan]) == [0]


def grown(values: list[float], server_from: int = 0) -> list[float]:
    """By how much a counter grew in each step."""
    one = Counted.of("x", {}, np.array(values))._replace(server_from=server_from)
    return np.bincount(one.grown.step, one.grown.amount, one.num_steps).tolist()


def test_growth_is_that_of_a_table_of_all_steps() -> None:
    """Gaps, repeats, restarts: held as changes alone it is what the table of all ends says."""
    rng = np.random.default_rng(4)
    for _ in range(300):
        values = np.cumsum(rng.integers(0, 3, 12) * rng.integers(0, 2, 12)).astype(np.float64)
        values[rng.integers(0, 12) :] -= values[rng.integers(0, 12)] * rng.integers(0, 2)
        values = np.where(rng.random(12) < 0.3, np.nan, np.maximum(values, 0))
        first = int(rng.integers(0, 4))
        assert grown(values.tolist(), first) == in_a_table(values, first)


def in_a_table(values: NDArray[np.float64], server_from: int) -> list[float]:
    """The same, every end filled in."""
    filled, there = values.copy(), np.flatnonzero(~np.isnan(values))
    if not len(there):
        return [0.0] * (len(values) - 1)
    filled[: there[0]] = 0.0 if there[0] > server_from else filled[there[0]]
    for at in np.flatnonzero(np.isnan(filled)):
        filled[at] = filled[at - 1]
    steps = np.diff(filled)
    return np.where(steps < 0, filled[1:], steps).tolist()


def test_a_day_of_buckets_is_held_as_what_changed() -> None:
    """40 buckets of an adapter that is asked a few times a day: 461 kB as a table."""
    ends = np.arange(1441, dtype=np.float64)
    series = [
        Counted.of(
            "vllm:request_prompt_tokens_bucket",
            {"le": str(i)},
            np.where(ends > 600, 1.0, 0.0) + np.where((ends > 900) & (i > 20), 1.0, 0.0),
        )
        for i in range(40)
    ]
    assert sum(one.place.nbytes + one.value.nbytes for one in series) < 2_000
    info = Counted.of("vllm:lora_requests_info", {}, np.ones(1441))
    assert len(info.place) == 1441  # each of its values says that it was there


VLLM = {"model_name": "llama", "engine": "0"}


def answer(*series: tuple[dict[str, str], list[float]]) -> str:
    rows = [
        {"metric": labels, "values": [[START_S + 60 * i, str(value)] for i, value in enumerate(values)]}
        for labels, values in series
    ]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": rows}})


def test_adapters_behind_vllms_one_label_are_told_by_who_is_running(tmp_path: Path) -> None:
    info = {"__name__": "vllm:lora_requests_info", "max_lora": "4", "waiting_lora_adapters": ""}
    stamps = [START_S + 60 * i for i in range(5)]
    (tmp_path / "a.json").write_text(
        answer(
            ({"__name__": "vllm:request_success_total", **VLLM}, [0, 60, 120, 180, 240]),
            ({"__name__": "vllm:prompt_tokens_total", **VLLM}, [0, 6000, 12000, 18000, 24000]),
            ({"__name__": "vllm:generation_tokens_total", **VLLM}, [0, 600, 1200, 1800, 2400]),
            ({**info, "running_lora_adapters": "red,blue"}, [stamps[0], stamps[0], stamps[2], stamps[2], stamps[4]]),
            ({**info, "running_lora_adapters": "red"}, [1.0, stamps[1], stamps[1], stamps[3], stamps[3]]),
        )
    )
    spec, _, _ = imported(tmp_path, tmp_path / "a.json")
    (group,) = spec.groups
    assert group.adapter_names() == ("blue", "red") and group.total_rate == pytest.approx(1.0)
    assert group.popularity[1] > group.popularity[0]
    assert "whichever adapter was asked for" in (tmp_path / "w.yaml").read_text()


def test_parts_and_ranks_of_sglang_are_not_added_to_their_total(tmp_path: Path) -> None:
    labels = {"model_name": "llama", "engine_type": "unified"}
    each: list[tuple[dict[str, str], list[float]]] = []
    for name, step in (("num_requests", 60.0), ("prompt_tokens", 6000.0), ("generation_tokens", 600.0)):
        for rank in ("0", "1"):
            for priority in ("", "0", "1"):
                shown = {"__name__": f"sglang:{name}_total", **labels, "tp_rank": rank, "priority": priority}
                each.append((shown, [0.0, step / (2 if priority else 1), 2 * step / (2 if priority else 1)]))
    (tmp_path / "a.json").write_text(answer(*each))
    spec, _, _ = imported(tmp_path, tmp_path / "a.json")
    assert spec.total_rate_per_s == pytest.approx(1.0)


def test_pods_of_two_engines_are_added_up(tmp_path: Path) -> None:
    each: list[tuple[dict[str, str], list[float]]] = []
    for prefix, requests in (("vllm", "request_success"), ("sglang", "num_requests")):
        for name, step in ((requests, 60.0), ("prompt_tokens", 6000.0), ("generation_tokens", 600.0)):
            labels = {"__name__": f"{prefix}:{name}_total", "model_name": "llama", "pod": prefix}
            each.append((labels, [0.0, step, 2 * step]))
    (tmp_path / "a.json").write_text(answer(*each))
    spec, observed, _ = imported(tmp_path, tmp_path / "a.json")
    assert spec.total_rate_per_s == pytest.approx(2.0)
    assert observed.cells.prompt_tokens.sum() == 24_000 and observed.cells.output_tokens.sum() == 2_400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no requests"),
        ('{"time": 1, "model": "a"}\n', "is of no form that is known"),
        ('{"time": 1, "model": "a", "prompt_tokens": 3}\n', "column 'completion_tokens' is missing"),
        (
            '{"time": -1, "model": "a", "prompt_tokens": 3, "completion_tokens": 3}\n',
            "line 1, time: must not be negative",
        ),
        ("arrival_s\n1\n2\n", "has no prompt tokens and no output tokens; --column"),
        (answer(({"__name__": "up"}, [1, 1])), "has no series that counts requests (vllm:request_success_total"),
        (answer(({"__name__": "vllm:request_success_total"}, [0, 9])), "counts requests, and no prompt tokens"),
        (answer(({"__name__": "vllm:request_success_total"}, [0])), "fewer than two times"),
        ('{"status": "error", "data": {"result": []}, "error": "too many"}', "too many"),
        (
            '{"status": "success", "data": {"resultType": "vector", "result": []}}',
            "holds a vector, not a range of time",
        ),
        ("# TYPE up gauge\nup 1\nprocess_start_time_seconds 5\n", "has no series that counts requests"),
        ("# TYPE up gauge\nup one\n", "not in Prometheus' text format"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_nothing_is_written(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "source").write_text(text)
    done = loratwin("traffic", "import", "source", "-o", "w.yaml", cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_words_that_are_none(tmp_path: Path) -> None:
    log = as_log(sent({"window_s": 60, "groups": [{"name": "a", "count": 1, "rate": 1}]}), tmp_path / "l.jsonl").name
    for words, message in (
        (["http://127.0.0.1:9"], "no Prometheus answers"),
        ([log, "--hours", "worst"], "hours 'worst': expected busiest, median, all"),
        ([log, "--column", "time=when"], "has no column 'when'"),
        ([log, "--since", "day"], "--since 'day': expected a number and s, m, h or d"),
        ([log, "--until", "noon"], "--until 'noon': expected a time"),
        ([log, log], "one log at a time"),
        (["http://a", "http://b"], "one Prometheus at a time"),
        (["http://127.0.0.1:9", "--since", "7d", "--step", "1"], "--step 1 s: expected 1 to 10,000 steps"),
        (["absent.jsonl"], "absent.jsonl: cannot be read"),
    ):
        done = loratwin("traffic", "import", *words, "-o", "w.yaml", cwd=tmp_path)
        assert done.returncode == 2 and message in done.stderr, (words, done.stderr)
    done = loratwin("traffic", "import", log, "-o", "w.yaml", cwd=tmp_path)
    assert done.returncode == 0 and "1 names" in done.stdout, done.stderr


def test_a_log_with_braces_in_its_first_line_is_no_page_of_metrics() -> None:
    assert is_page('vllm:request_success_total{model_name="a"} 3.0')
    assert not is_page("INFO 11-27 12:00:00 [api_server.py:12] args: Namespace(limit_mm_per_prompt={})")
