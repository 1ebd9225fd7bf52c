"""The whole fit on a small folder of 'measurements' made by a known server: the loop closes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from loratwin.calibrate.published.fit import MAX_RATE, WALK_COSTS_S, TablesFit, fit_tables, match_all, read_runs
from loratwin.calibrate.published.operating_point import Match
from loratwin.errors import DataError, InputError
from loratwin.perf import Profile, dump_profile, load_profile
from loratwin.validate import predict
from tests.calibrate.known_server import START, TRUTH, WORKLOADS, write_tables
from tests.calibrate.measured import HEADER, LLAMA, QWEN, Row, by_hand, measured, row, serving_runs, write_csv


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def fit(data: Path) -> TablesFit:
    return fit_tables(data, LLAMA, processes=1, passes=1)


def check_predictions(folder: Path, fitted: Profile, *rows: Row) -> None:
    """What the fitted profile says of runs of the known server."""
    for values in rows:
        [run] = serving_runs(folder, measured(folder, values, TRUTH))
        found, figure = predict(run, fitted), run.figure
        total = figure("input_throughput") + figure("output_throughput")
        truth = predict(run, TRUTH)
        assert found.total_throughput == pytest.approx(truth.total_throughput, rel=0.03), run.name
        assert total == pytest.approx(truth.total_throughput, rel=0.05), run.name
        assert found.tpot_mean_ms == pytest.approx(figure("tpot_mean_ms"), rel=0.04), run.name
        assert found.itl_mean_ms == pytest.approx(figure("itl_mean_ms"), rel=0.04), run.name
        assert found.kv_tokens == pytest.approx(figure("kv_tokens"), rel=0.002), run.name


def test_the_fitted_profile_predicts_runs_that_it_has_not_seen(fit: TablesFit, tmp_path: Path) -> None:
    assert all(m.usable for m in fit.matches)
    unseen = row("unseen", rate=0.1, slots=64, served=96, adapter_ranks_cycle="8 16", window_s=600)
    busy = row("busy", rate=0.4, slots=32, served=32, adapter_ranks_cycle="16", window_s=300)
    check_predictions(tmp_path, fit.profile, unseen, busy)
    [run] = serving_runs(tmp_path, measured(tmp_path, unseen, TRUTH))
    assert predict(run, START).tpot_mean_ms < 0.9 * run.figure("tpot_mean_ms")  # the fit had something to do


def test_without_a_workload_the_rest_still_predicts_it(fit: TablesFit, data: Path, tmp_path: Path) -> None:
    held_out = "0.08 | 8 16"
    assert held_out in fit.groups
    profile = fit.without(held_out)
    assert profile != fit.profile
    check_predictions(tmp_path, profile, row("held out", rate=0.08, slots=48, served=64, window_s=600))


def test_a_held_out_workload_does_not_matter(fit: TablesFit, data: Path) -> None:
    """Whatever its runs measured: the profile without them is the same."""
    held_out = "0.3 | 16"

    def scramble(m: Match) -> Match:
        figures = {"ttft_mean_ms": "1", "itl_mean_ms": "1"}
        return replace(m, step_s=9.9, itl_s=9.9, run=replace(m.run, row={**m.run.row, **figures}))

    scrambled = [scramble(m) if m.run.group == held_out else m for m in fit.matches]
    assert any(m.step_s == 9.9 for m in scrambled)
    assert replace(fit, matches=tuple(scrambled)).without(held_out) == fit.without(held_out)


def test_without_a_long_queue_the_walks_cost_stays_and_the_card_will_say_so(fit: TablesFit) -> None:
    assert fit.profile.step_time.skipped_s == START.step_time.skipped_s > min(WALK_COSTS_S)
    [note] = fit.notes
    assert "cost per request passed over is not fitted (4e-07 s" in note
    waiting = [replace(m, run=replace(m.run, row={**m.run.row, **LONG_QUEUE})) for m in fit.matches]
    assert replace(fit, matches=tuple(waiting)).notes == ()


LONG_QUEUE = {"waiting_mean": "5000", "kv_usage_mean": "0.3"}


def test_groups_are_the_workloads(fit: TablesFit) -> None:
    assert fit.groups == sorted(f"{rate} | {ranks}" for rate, ranks in WORKLOADS)


def test_other_tables_are_used(fit: TablesFit) -> None:
    assert fit.profile.memory.other_gib == pytest.approx(1.1, abs=0.01)
    assert fit.profile.loading.swap_in_s == pytest.approx(0.005)
    assert fit.profile.loading.swap_in_padded_s == pytest.approx(0.006)
    assert fit.profile.loading.disk_load_per_rank_s == pytest.approx(0.001)
    assert fit.profile.frontend.generated_share == pytest.approx(0.9, abs=0.02)
    assert fit.profile.frontend.overhead_s == pytest.approx(0.02, rel=0.3)
    assert {p.kind for p in fit.micro} == {"decode", "prompts", "adapters"}


def test_known_coefficients_are_not_fitted(fit: TablesFit) -> None:
    for name in ("context_s", "prefill_context_s"):
        assert getattr(fit.profile.step_time, name) == getattr(START.step_time, name)


def test_a_fitted_profile_is_a_file(fit: TablesFit, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(dump_profile(fit.profile))
    assert load_profile(str(path)) == fit.profile


def test_the_same_data_give_the_same_profile_in_any_number_of_processes(fit: TablesFit, data: Path) -> None:
    runs = read_runs(data, LLAMA.name)[:4]
    one, two = ([m.factor for m in match_all(runs, fit.start, n, lambda done, of: None)] for n in (1, 2))
    assert one == two
    assert sorted(m.factor for m in fit.matches if m.run in runs) == sorted(one)


def test_progress_is_told(data: Path) -> None:
    told: list[tuple[int, int]] = []
    runs = read_runs(data, LLAMA.name)[:2]
    list(match_all(runs, START, 1, lambda done, of: told.append((done, of))))
    assert told == [(1, 2), (2, 2)]


def test_runs_that_are_not_fitted(tmp_path: Path) -> None:
    rows = [by_hand(row("good"), 100), by_hand(row("fast", rate=MAX_RATE), 100), row("never ran"),
            by_hand(row("failed", outcome="error"), 100), by_hand(row("other", model=QWEN.name), 100)]  # fmt: skip
    write_csv(tmp_path / "serving_validation.csv", rows, HEADER)
    write_csv(tmp_path / "serving_optimum.csv", [by_hand(row("grid"), 100)], HEADER)
    assert [run.name for run in read_runs(tmp_path, LLAMA.name)] == ["good", "grid"]


def copied(data: Path, folder: Path, *without: str) -> Path:
    for path in data.glob("*.csv"):
        if path.name not in without:
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(
    "name",
    ["serving_validation", "serving_optimum", "kv_capacity", "adapter_loading", "backbone_latency", "adapter_overhead"],
)
def test_a_missing_table_is_one_clear_line(name: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(f"{name}.csv")) as caught:
        fit_tables(copied(data, tmp_path, f"{name}.csv"), LLAMA, processes=1, passes=1)
    assert "\n" not in str(caught.value)


def test_no_run_of_the_llm_is_one_clear_line(data: Path, tmp_path: Path) -> None:
    folder = copied(data, tmp_path)
    for name in ("serving_validation.csv", "serving_optimum.csv"):
        write_csv(folder / name, [row(model=QWEN.name)], HEADER)
    with pytest.raises(DataError, match=f"no completed serving run of {LLAMA.name}"):
        fit_tables(folder, LLAMA, processes=1, passes=1)


def test_only_saturated_runs_are_one_clear_line(data: Path, tmp_path: Path) -> None:
    """The front end and the generated share show in runs without a queue only."""
    folder = copied(data, tmp_path)
    for name in ("serving_validation.csv", "serving_optimum.csv"):
        write_csv(folder / name, [by_hand(row(), 100, waiting_mean=500.0)], HEADER)
    with pytest.raises(DataError, match="no run without a queue"):
        fit_tables(folder, LLAMA, processes=1, passes=1)
