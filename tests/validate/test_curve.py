"""The learning curve: what is drawn, what it is fitted to, and that more runs help where only they can tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from loratwin.calibrate.published.fit import fit_tables, read_runs
from loratwin.calibrate.published.serving import ServingRun, read_serving
from loratwin.calibrate.published.start import SHAPES
from loratwin.errors import DataError, InputError
from loratwin.llms import LlmShapes
from loratwin.validate import Prediction, predict
from loratwin.validate.curve import Curve, CurvePlan, HeldOutFit, curve_json, curve_markdown, folds_of, learning_curve
from tests.calibrate.known_server import START, TRUTH, write_tables
from tests.calibrate.measured import DATA, HEADER, LLAMA, Row, by_hand, needs_data, row, serving_runs, write_csv
from tests.cli.program import loratwin

WORKLOADS = [(0.02, "8"), (0.08, "8 16"), (0.15, "16"), (0.2, "8")]
PLAN = CurvePlan(sizes=(0, 2, 4), draws=2, sets=2, sample=3)
EACH_LLM = pytest.mark.parametrize("llm", SHAPES, ids=[llm.name for llm in SHAPES])
SMALL = replace(PLAN, sizes=(0, 4), draws=1)
SERVING = ("serving_validation.csv", "serving_optimum.csv")


def quiet(what: str, done: int, of: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("data"), WORKLOADS)


@pytest.fixture(scope="module")
def curve(data: Path) -> Curve:
    return learning_curve(data, SMALL, 1, quiet)


@pytest.fixture
def runs(tmp_path: Path) -> list[ServingRun]:
    """Five workloads of six runs each."""
    rows = [by_hand(row(f"{rate}/{n}", rate=rate), 100) for rate in (0.1, 0.2, 0.3, 0.4, 0.5) for n in range(6)]
    return serving_runs(tmp_path, *rows)


def names(runs: tuple[ServingRun, ...]) -> list[str]:
    return [run.name for run in runs]


def test_every_workload_is_held_out_once_and_never_learned_from(runs: list[ServingRun]) -> None:
    folds = folds_of(LLAMA.name, runs, PLAN)
    sets = sorted({fold.held_out for fold in folds})
    assert sorted(group for held_out in sets for group in held_out) == sorted({run.group for run in runs})
    assert len(sets) == 2
    for fold in folds:
        assert {run.group for run in fold.asked} <= set(fold.held_out)
        assert not {run.group for run in fold.evidence} & set(fold.held_out)
        assert len(set(names(fold.asked))) == 3


def test_a_draw_adds_to_its_runs_and_another_draw_has_others(runs: list[ServingRun]) -> None:
    folds = folds_of(LLAMA.name, runs, PLAN)
    for held_out in {fold.held_out for fold in folds}:
        mine = [fold for fold in folds if fold.held_out == held_out]
        assert [(fold.draw, len(fold.evidence)) for fold in mine] == [(0, 0), (0, 2), (0, 4), (1, 2), (1, 4)]
        assert mine[1].evidence == mine[2].evidence[:2]
        assert mine[3].evidence == mine[4].evidence[:2]
        assert set(names(mine[2].evidence)) != set(names(mine[4].evidence))
        assert all(fold.asked == mine[0].asked for fold in mine)


def test_the_seed_decides(runs: list[ServingRun]) -> None:
    assert folds_of(LLAMA.name, runs, PLAN) == folds_of(LLAMA.name, runs, PLAN)
    assert folds_of(LLAMA.name, runs, PLAN) != folds_of(LLAMA.name, runs, replace(PLAN, seed=1))


def test_too_little_for_the_plan(runs: list[ServingRun], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"5 workloads cannot be dealt into 6 held-out sets"):
        folds_of(LLAMA.name, runs, replace(PLAN, sets=6))
    with pytest.raises(DataError, match=r"12 runs outside of .*, fewer than 13"):
        folds_of(LLAMA.name, runs, replace(PLAN, sizes=(0, 13)))
    for name in SERVING:
        write_csv(tmp_path / name, [row()], HEADER)
    with pytest.raises(DataError, match=f"no completed serving run of {LLAMA.name} or "):
        learning_curve(tmp_path, PLAN, 1, quiet)


@pytest.mark.parametrize("wrong", [{"sizes": ()}, {"sizes": (5, 0)}, {"sizes": (-1,)}, {"sizes": (2, 2)}, {"sets": 1},
                                   {"draws": 0}, {"sample": 0}])  # fmt: skip
def test_a_plan_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        replace(PLAN, **wrong)  # type: ignore[arg-type]


def test_predictions_are_of_a_profile_fitted_to_the_evidence(curve: Curve, data: Path) -> None:
    for i in (0, -1):
        fold, predictions = curve.folds[i], curve.predictions[i]
        profile = fit_tables(data, LLAMA, processes=1, only=fold.evidence).profile
        assert predictions == tuple(predict(run, profile) for run in fold.asked)


def test_what_held_out_runs_measured_does_not_matter(curve: Curve, data: Path, tmp_path: Path) -> None:
    fold, plan = curve.folds[-1], replace(SMALL, sizes=(4,))
    for path in data.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name in SERVING:
        rows = [scrambled(run) if run.group in fold.held_out else run.row for run in read_serving(data / name)]
        write_csv(tmp_path / name, rows, HEADER)
    changed = learning_curve(tmp_path, plan, 1, quiet)
    assert changed.folds[-1].held_out == fold.held_out
    assert changed.folds[-1].asked != fold.asked  # they were scrambled
    assert changed.predictions[-1] == curve.predictions[-1]


def scrambled(run: ServingRun) -> Row:
    figures = ("ttft_mean_ms", "ttft_median_ms", "tpot_mean_ms", "itl_mean_ms", "output_tokens", "output_throughput")
    return {**run.row, **{name: repr(1.3 * run.figure(name)) for name in figures}}


def test_serving_runs_teach_what_micro_measurements_cannot(curve: Curve) -> None:
    """The known server generates fewer tokens and has a slower front end than where the fit starts."""

    def error(size: int, metric: str) -> float:
        scores = {(s.serving_runs, s.metric, s.regime): s.mape for s in curve.scores()}
        return scores[size, metric, "open"]

    assert error(0, "total_throughput") > 3  # 0.97 / 0.9 of the output
    for metric in ("total_throughput", "ttft_median_ms"):
        assert error(4, metric) < 0.7 * error(0, metric)  # the rest is noise of short runs


def test_without_runs_what_they_tell_stays_as_it_starts(data: Path) -> None:
    fit = fit_tables(data, LLAMA, processes=1, only=())
    assert fit.matches == ()
    assert fit.profile.frontend == START.frontend
    assert fit.profile.step_time.skipped_s == START.step_time.skipped_s
    assert fit.profile.step_time.weights_s == pytest.approx(TRUTH.step_time.weights_s, rel=0.05)
    assert fit.profile.memory.other_gib == pytest.approx(TRUTH.memory.other_gib, abs=0.01)


def test_only_the_chosen_runs_are_evidence(data: Path) -> None:
    chosen = read_runs(data, LLAMA.name)[:2]
    fit = fit_tables(data, LLAMA, processes=1, passes=1, only=chosen)
    assert sorted(m.run.name for m in fit.matches) == sorted(run.name for run in chosen)


def by_hand_curve(folder: Path) -> Curve:
    """Two sets of one run each, 100 tokens/s measured, one of them starved; two draws of one serving run."""
    rows = [by_hand(row("a", rate=1, served=1), 100), by_hand(row("b", rate=0.2, served=1), 100, waiting_mean=50.0)]
    starved, clear = serving_runs(folder, *rows)
    folds, predictions = [], []
    for draw, a, b in ((0, 110.0, 100.0), (1, 130.0, 90.0)):
        for run, value, yes in ((starved, a, draw), (clear, b, 1 - draw)):
            folds.append(HeldOutFit(LLAMA.name, (run.group,), draw, (clear if run is starved else starved,), (run,)))
            predictions.append((Prediction(run.name, total_throughput=value, starts=1, starved=yes),))
    return Curve(CurvePlan(sizes=(1,), draws=2, sets=2), tuple(folds), tuple(predictions))


def test_scores_are_means_over_draws_of_all_sets(tmp_path: Path) -> None:
    found = by_hand_curve(tmp_path)
    by_regime = {s.regime: s for s in found.scores() if s.metric == "total_throughput"}
    whole, saturated = by_regime["all"], by_regime["saturated"]
    assert (whole.serving_runs, whole.predicted, saturated.predicted) == (1, 2, 1)
    assert [whole.mape, whole.mape_min, whole.mape_max] == pytest.approx([12.5, 5, 20])
    assert [whole.bias, saturated.mape, saturated.bias] == pytest.approx([7.5, 5, -5])
    [verdicts] = found.verdicts()
    assert (verdicts.predicted, verdicts.starved, verdicts.missed, verdicts.false_alarms) == (2, 1, 0.5, 0.5)


def test_as_markdown_and_json(tmp_path: Path) -> None:
    found = by_hand_curve(tmp_path)
    text = curve_markdown(found)
    assert "| throughput | all | 2 | 12.5 (5.0 to 20.0) / 12.5 / +7.5 |" in text.splitlines()
    assert "| starved (1 are), wrong runs | all | 2 | 0.5 missed, 0.5 false |" in text.splitlines()
    document = json.loads(curve_json(found))
    assert document["plan"]["sizes"] == [1]
    errors = {(e["metric"], e["regime"]): e for e in document["errors"]}
    assert errors["total_throughput", "all"]["mape"] == pytest.approx(12.5)
    assert errors["ttft_mean_ms", "all"]["mape"] is None  # nothing was measured


def test_as_a_command(data: Path, tmp_path: Path) -> None:
    small = ("--serving-runs", "0,1", "--draws", "1", "--sets", "2", "--sample", "1")
    done = loratwin("validate", "curve", str(data), "-o", "curve.json", *small, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "curve.json\n"), done.stderr
    plan = CurvePlan((0, 1), draws=1, sets=2, sample=1)
    assert (tmp_path / "curve.json").read_text() == curve_json(learning_curve(data, plan, 1, quiet))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent",), "absent"),
        ((".", "-o", "curve.txt"), "must end in .md or .json"),
        ((".", "-o", "nowhere/curve.md"), "no folder nowhere"),
        ((".", "--serving-runs", "0,few"), "expected whole numbers"),
    ],
)
def test_what_the_command_refuses(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = loratwin("validate", "curve", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@needs_data
@EACH_LLM
def test_the_measurements_allow_the_usual_plan(llm: LlmShapes) -> None:
    folds = folds_of(llm.name, read_runs(DATA, llm.name), CurvePlan())
    assert len(folds) == 3 * (1 + 3 * 4)
    assert all(len(fold.held_out) == 2 and len(fold.asked) == 40 for fold in folds)


@needs_data
@EACH_LLM
def test_the_micro_measurements_alone_make_a_profile(llm: LlmShapes) -> None:
    """Slots did not vary in them, so that their cost cannot be told from that of LoRA as such."""
    fitted = fit_tables(DATA, llm, processes=1, only=()).profile.step_time
    assert fitted.weights_s > 0.01
    assert fitted.adapter_s > 0
    assert sum(getattr(fitted, name) > 0 for name in ("lora_s", "slot_s")) == 1
