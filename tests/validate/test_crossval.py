"""Held-out predictions: each workload by a profile fitted without it; and the cards made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratwin.calibrate.published.fit import TablesFit, fit_tables
from loratwin.calibrate.published.serving import ServingRun, read_serving
from loratwin.perf import dump_profile, load_profile
from loratwin.validate import decide_all, predict, predict_all
from loratwin.validate.cards import carded_profiles
from loratwin.validate.crossval import (
    FIRST_LOOK,
    REFERENCE_FILE,
    Validation,
    cross_validate,
    first_look,
    read_published,
)
from loratwin.validate.scores import score
from tests.calibrate.known_server import write_tables
from tests.calibrate.measured import HEADER, LLAMA, QWEN, by_hand, row, serving_runs, write_csv

WORKLOADS = [(0.02, "8"), (0.08, "8 16"), (0.15, "16")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tables(tmp_path_factory.mktemp("data"), WORKLOADS)
    published = {"run": "0.08/8", "total_throughput": "123", "itl_mean_ms": "45"}
    write_csv(folder / REFERENCE_FILE, [published, {**published, "run": "of another file"}])
    return folder


@pytest.fixture(scope="module")
def fit(data: Path) -> TablesFit:
    return fit_tables(data, LLAMA, processes=1, passes=1)


@pytest.fixture(scope="module")
def found(data: Path, fit: TablesFit) -> Validation:
    return cross_validate(data, {LLAMA.name: fit}, 1, lambda what, done, of: None)


def of_group(found: Validation, group: str) -> list[ServingRun]:
    return [run for run in found.runs if run.group == group]


def test_every_run_is_predicted_without_its_workload(found: Validation, fit: TablesFit) -> None:
    assert len(found.runs) == len(found.predictions) == 9
    by_name = {p.run: p for p in found.predictions}
    for group in fit.groups:
        profile = fit.without(group)
        for run in of_group(found, group):
            assert by_name[run.name] == predict(run, profile)
            assert by_name[run.name] != predict(run, fit.profile)


def test_grids_are_decided_without_their_workload(found: Validation, fit: TablesFit) -> None:
    grid = [run for i, run in enumerate(found.runs) if i >= 5]  # serving_optimum.csv follows serving_validation.csv
    expected = [
        decision
        for group in fit.groups
        for decision in decide_all(
            [run for run in grid if run.group == group], profiles={LLAMA.name: fit.without(group)}
        )
    ]
    assert list(found.decisions) == expected


def test_scores_are_there(found: Validation) -> None:
    assert {s.regime for s in found.scores} == {"all", "open", "saturated", LLAMA.name}
    assert found.starts.both_yes == 9
    assert len(found.kv_errors) == 9
    assert [a.question for a in found.advice] == ["joint", "slots", "latency"]


def test_the_published_twin_is_scored_on_its_runs(found: Validation, data: Path, tmp_path: Path) -> None:
    assert [(run.name, p.total_throughput, p.itl_mean_ms) for run, p in found.published] == [("0.08/8", 123, 45)]
    assert {s.metric for s in found.published_scores} == {"total_throughput", "itl_mean_ms"}
    assert read_published(tmp_path, found.runs) == []


def test_an_llm_without_a_fit_is_left_out(data: Path, fit: TablesFit, tmp_path: Path) -> None:
    for name in ("serving_validation.csv", "serving_optimum.csv"):
        rows = [by_hand(row(f"q-{name}", model=QWEN.name), 100.0)]
        (tmp_path / name).write_text((data / name).read_text())
        more = write_csv(tmp_path / "more.csv", rows, HEADER).read_text().splitlines()[1]
        with (tmp_path / name).open("a") as file:
            file.write(more + "\n")
    found = cross_validate(tmp_path, {LLAMA.name: fit}, 1, lambda what, done, of: None)
    assert len(found.runs) == 9
    assert found.published == ()


def test_a_first_look_is_at_the_shipped_profiles(data: Path) -> None:
    told: list[tuple[str, int, int]] = []
    looks = first_look(data, 1, lambda *now: told.append(now))
    runs = [run for run in read_serving(data / "serving_validation.csv") if run.model == LLAMA.name]
    expected = [each for each in score(runs, predict_all(runs)) if each.regime == "all"]
    assert [str(each) for each in looks] == [str(each) for each in expected]
    assert told[-1] == (FIRST_LOOK, len(runs), len(runs))


def test_cards_say_what_was_fitted_and_how_far_off_it_was(found: Validation, fit: TablesFit, tmp_path: Path) -> None:
    [profile] = carded_profiles({LLAMA.name: fit}, found)
    assert profile.digest == fit.profile.digest
    assert "9 of 9 serving runs" in profile.card.fitted_on
    assert "(3 workloads)" in profile.card.fitted_on
    every = next(s for s in found.scores if (s.metric, s.regime) == ("tpot_mean_ms", "all"))
    assert profile.card.held_out_error["tpot_mean_ms, all"].startswith(f"MAPE {every.mape:.1f} %")
    assert "tpot_mean_ms, saturated" in profile.card.held_out_error
    path = tmp_path / "mine.yaml"
    path.write_text(dump_profile(profile))
    assert load_profile(str(path)) == profile


def test_cards_are_of_their_own_llm(found: Validation, fit: TablesFit, tmp_path: Path) -> None:
    """Another LLM's runs, however wrong, are not on the card."""
    [other] = serving_runs(tmp_path, by_hand(row("q", model=QWEN.name), 1.0, tpot_mean_ms=1.0))
    more = Validation(
        (*found.runs, other), (*found.predictions, found.predictions[0]), found.decisions, found.published, found.how
    )
    assert list(carded_profiles({LLAMA.name: fit}, more)) == list(carded_profiles({LLAMA.name: fit}, found))
