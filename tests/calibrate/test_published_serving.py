"""Rows of measured runs: parsed, refused, and predicted from without a look at what was measured."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from loratwin.calibrate.published.serving import (
    CLIENT_LAG_S,
    CLIENT_MAX_IN_FLIGHT,
    CONFIGURATION,
    profile_for,
    read_serving,
)
from loratwin.errors import DataError
from loratwin.perf import profile_names
from tests.calibrate.measured import FIGURES, HEADER, LLAMA, by_hand, row, serving_runs, write_csv

TWO_RATES = {"rates": "0.4 0.1", "adapter_rate_values": "0.1 0.4", "adapter_rate_counts": "21 11"}


def test_a_row_is_parsed(tmp_path: Path) -> None:
    [run] = serving_runs(tmp_path, row("r1", slots=16, served=32, **TWO_RATES))
    assert (run.name, run.model, run.max_loras, run.served_adapters) == ("r1", LLAMA.name, 16, 32)
    assert (run.ranks_cycle, run.rate_values, run.rate_counts) == ((8, 16), (0.1, 0.4), (21, 11))
    assert (run.prompt_tokens_mean, run.output_tokens_mean, run.window_s) == (220.0, 200.0, 60.0)
    assert run.total_rate == pytest.approx(21 * 0.1 + 11 * 0.4)
    config = run.config
    assert (config.max_loras, config.max_cpu_loras, config.max_lora_rank) == (16, 32, 16)
    assert (config.max_num_seqs, config.max_num_batched_tokens) == (2048, 2048)
    assert config.max_in_flight == CLIENT_MAX_IN_FLIGHT


def test_the_host_cache_is_at_least_the_slots(tmp_path: Path) -> None:
    [run] = serving_runs(tmp_path, row(slots=64, served=32))
    assert run.config.max_cpu_loras == 64


@pytest.mark.parametrize("window", ["", None])
def test_without_a_window_it_is_an_hour(window: str | None, tmp_path: Path) -> None:
    values = {k: v for k, v in row(window_s=window or "").items() if window is not None or k != "window_s"}
    assert serving_runs(tmp_path, values)[0].window_s == 3600.0


def test_the_group_is_the_workload_whatever_the_server(tmp_path: Path) -> None:
    a, b, other_rate, other_rank = serving_runs(
        tmp_path,
        row(slots=8, served=16, **TWO_RATES),
        row(slots=64, served=96, **{**TWO_RATES, "adapter_rate_values": "", "adapter_rate_counts": ""}),
        row(rate=0.2),
        row(adapter_ranks_cycle="8", **TWO_RATES),
    )
    assert a.group == b.group
    assert len({a.group, other_rate.group, other_rank.group}) == 3


def test_without_a_column_of_rates_the_group_is_their_values(tmp_path: Path) -> None:
    rows = [row(adapter_rate_values=v, adapter_rate_counts="16 16") for v in ("0.4 0.1", "0.1 0.4", "0.1 0.2")]
    for values in rows:
        del values["rates"]
    first, same, other = serving_runs(tmp_path, *rows)
    assert first.group == same.group != other.group


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter_rate_values": "", "adapter_rate_counts": ""},
        {"adapter_rate_values": "nan", "adapter_rate_counts": "nan"},
        {"prompt_tokens_mean": ""},
        {"output_tokens_mean": ""},
    ],
)
def test_a_server_that_did_not_start_has_no_workload(changes: dict[str, str], tmp_path: Path) -> None:
    without, with_all = serving_runs(tmp_path, row(**changes), row())
    assert not without.has_workload
    assert with_all.has_workload


def test_measured_or_not(tmp_path: Path) -> None:
    found = serving_runs(
        tmp_path,
        by_hand(row(), 100.0),
        by_hand(row(outcome="error"), 100.0),
        row(),
    )
    assert [run.measured for run in found] == [True, False, False]
    assert found[0].figure("input_throughput") == 50.0
    assert math.isnan(found[2].figure("input_throughput"))


def test_the_client_sends_less_than_asked_when_it_is_much(tmp_path: Path) -> None:
    slow, fast = serving_runs(tmp_path, row(rate=0.001, served=10), row(rate=10, served=100))
    assert slow.sent_per_s == pytest.approx(slow.total_rate, rel=1e-4)
    assert fast.sent_per_s == pytest.approx(1000 / (1 + 1000 * CLIENT_LAG_S))
    assert 0.8 < fast.sent_per_s / 1000 < 0.9


def test_the_workload_is_what_the_client_sent(tmp_path: Path) -> None:
    [run] = serving_runs(tmp_path, row(rate=10, served=100, window_s=20))
    full, half = run.workload(1.0), run.workload(0.5)
    sigma = math.sqrt(run.sent_per_s * 20)
    assert abs(full.num_requests - run.sent_per_s * 20) < 5 * sigma
    assert abs(full.num_requests - run.total_rate * 20) > 5 * sigma
    assert len(full.adapters) == 100
    assert set(full.adapters.rank) == {8, 16}
    assert half.output_tokens.mean() == pytest.approx(full.output_tokens.mean() / 2, rel=0.05)
    np.testing.assert_array_equal(half.prompt_tokens, full.prompt_tokens)


def test_workload_and_configuration_use_configuration_columns_only(tmp_path: Path) -> None:
    measured_columns = [c for c in HEADER if c not in (*CONFIGURATION, "window_s", "rates")]
    assert set(FIGURES) | {"kv_tokens", "outcome"} <= set(measured_columns)
    plain, scrambled, absent = serving_runs(
        tmp_path,
        by_hand(row(), 100.0),
        row(**{c: 7.0 + i for i, c in enumerate(measured_columns)}),
        {k: v for k, v in row().items() if k in (*CONFIGURATION, "window_s", "rates")},
    )
    for other in (scrambled, absent):
        assert other.config == plain.config
        assert other.group == plain.group
        one, two = plain.workload(0.9, seed=3), other.workload(0.9, seed=3)
        for column in ("arrival_s", "adapter", "prompt_tokens", "output_tokens"):
            np.testing.assert_array_equal(getattr(one, column), getattr(two, column))


@pytest.mark.parametrize("column", CONFIGURATION)
def test_a_missing_column_is_named(column: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "runs.csv", [{k: v for k, v in row().items() if k != column}])
    with pytest.raises(DataError, match=f"column '{column}' is missing"):
        read_serving(path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("max_loras", "many", "'many' is not a number"),
        ("max_loras", "", "'' is not a whole number"),
        ("served_adapters", "2.5", "'2.5' is not a whole number"),
        ("max_num_seqs", "-1", "'-1' is not a whole number"),
        ("max_lora_rank", "inf", "'inf' is not a whole number"),
        ("adapter_rate_values", "0.1 x", "'x' is not a number"),
        ("adapter_ranks_cycle", "8 x", "'x' is not a number"),
        ("adapter_ranks_cycle", "8.5", "adapter_ranks_cycle"),
        ("adapter_rate_counts", "inf", "adapter_rate_counts"),
        ("adapter_rate_counts", "16 16", "adapter_rate_counts"),
        ("adapter_rate_counts", "0", "adapter_rate_counts"),
        ("adapter_rate_values", "0", "adapter_rate_values"),
        ("adapter_rate_values", "-0.1", "adapter_rate_values"),
        ("prompt_tokens_mean", "0", "prompt_tokens_mean"),
        ("output_tokens_mean", "-1", "output_tokens_mean"),
        ("window_s", "long", "'long' is not a number"),
        ("window_s", "-5", "window_s"),
        ("window_s", "inf", "window_s"),
        ("prompt_tokens_mean", "?", "'?' is not a number"),
        ("served_adapters", "1e30", "column 'served_adapters': '1e30' is above 100,000"),
        ("served_adapters", "100001", "column 'served_adapters': '100001' is above 100,000"),
        ("adapter_rate_counts", "1e30", "column 'adapter_rate_counts': '1e30' is above 100,000"),
        ("max_loras", "1e30", "column 'max_loras': '1e30' is above 2,147,483,647"),
        ("max_num_seqs", "1e30", "column 'max_num_seqs': '1e30' is above 2,147,483,647"),
        ("max_num_batched_tokens", "1e30", "column 'max_num_batched_tokens': '1e30' is above 16,777,216"),
        ("adapter_ranks_cycle", "8 1e30", "column 'adapter_ranks_cycle': '8 1e30' is above 2,147,483,647"),
    ],
)
def test_a_bad_cell_is_named_with_its_line(column: str, value: str, message: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "runs.csv", [row("good"), row("bad", **{column: value})])
    with pytest.raises(DataError) as caught:
        read_serving(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert message in str(caught.value)


def test_a_short_line_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "runs.csv", [row()])
    path.write_text(path.read_text() + "only-a-name\n")
    with pytest.raises(DataError, match="line 3"):
        read_serving(path)


def test_the_profile_of_an_llm() -> None:
    assert profile_for(LLAMA.name).llm.name == LLAMA.name
    with pytest.raises(DataError) as caught:
        profile_for("gpt-2")
    assert "'gpt-2'" in str(caught.value)
    assert all(name.rsplit("/", 1)[1] in str(caught.value) for name in profile_names())


def test_a_part_of_a_name_is_no_name() -> None:
    with pytest.raises(DataError):
        profile_for("instruct")
