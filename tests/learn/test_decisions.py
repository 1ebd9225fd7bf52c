"""The learned model in the twin's place: the same file of decisions, and close to what was measured."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.calibrate.published.serving import read_serving
from loratwin.learn.models.model import load_model
from loratwin.validate import decide_all, decisions_csv, predict_all
from loratwin.validate.learned import mix_of_run, predict_learned
from tests.calibrate.measured import DATA, LLAMA, TOOLS, needs_data, needs_tools, row, serving_runs, write_csv
from tests.cli.program import loratwin
from tests.slow import slow

HOUR = {"window_s": 3600, "rate": 0.05}
GRID = [(32, 16), (96, 16), (96, 64), (160, 32), (160, 96)]


def rows(**changes: Any) -> list[dict[str, str]]:
    return [row(f"{n}-{g}", slots=g, served=n, **{**HOUR, **changes}) for n, g in GRID]


def test_a_run_is_seen_as_sent(tmp_path: Path) -> None:
    (run,) = serving_runs(tmp_path, row(rate=0.1, slots=16, served=32, max_lora_rank=32))
    mix = mix_of_run(run, 0.5)
    assert mix.mean_rate == pytest.approx(0.1 * run.sent_per_s / 3.2)
    assert (mix.output_mean, mix.prompt_mean, mix.rank_max, mix.max_lora_rank) == (100, 220, 16, 32)


def test_it_says_what_the_twin_says(tmp_path: Path) -> None:
    runs = serving_runs(tmp_path, *rows())
    learned, twin = predict_learned(runs, load_model()), predict_all(runs)
    for ours, theirs in zip(learned, twin, strict=True):
        assert (ours.run, ours.starts, ours.kv_tokens) == (theirs.run, theirs.starts, theirs.kv_tokens)
        assert ours.total_throughput == pytest.approx(theirs.total_throughput, rel=0.05)
        assert ours.tpot_mean_ms == pytest.approx(theirs.tpot_mean_ms, rel=0.25)


def test_a_server_that_does_not_start_has_no_figures(tmp_path: Path) -> None:
    (found,) = predict_learned(
        serving_runs(tmp_path, row(slots=500, served=600, max_lora_rank=32, **HOUR)), load_model()
    )
    assert found.starts == 0 and np.isnan(found.total_throughput)


def test_the_same_file_with_both(tmp_path: Path) -> None:
    write_csv(tmp_path / "runs.csv", [*rows(window_s=600), *rows(model=LLAMA.name, rate=4.0, rates=4, window_s=600)])
    for using in ("twin", "learned"):
        done = loratwin("validate", "decisions", "runs.csv", "-o", f"{using}.csv", "--using", using, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    learned, twin = ((tmp_path / f"{using}.csv").read_text().splitlines() for using in ("learned", "twin"))
    assert [line.rsplit(",", 2)[0] for line in learned] == [line.rsplit(",", 2)[0] for line in twin]
    assert len(learned) == 1 + 2 * (1 + 3 + 3)
    assert all(line.endswith(",") for line in learned if ",4," in line)  # 4 requests/s of each: nothing works
    runs = read_serving(tmp_path / "runs.csv")
    assert (tmp_path / "learned.csv").read_text() == decisions_csv(decide_all(runs, learned=load_model()))


def test_another_model_is_taken_from_its_file(tmp_path: Path) -> None:
    write_csv(tmp_path / "runs.csv", rows())
    done = loratwin("validate", "decisions", "runs.csv", "-o", "d.csv", "--using", "mine.npz", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: cannot read mine.npz")


def scorer() -> Callable[..., Any]:
    """`main` of the scoring tool next to the measurements."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        spec = importlib.util.spec_from_file_location("score_decisions", TOOLS / "score_decisions.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    main: Callable[..., Any] = module.main
    return main


@slow
@needs_data
@needs_tools
def test_regret_on_measured_grids(tmp_path: Path) -> None:
    """Bounds a little above what docs/findings/learn.md reports; none of these workloads was learned from."""
    found = decide_all(read_serving(DATA / "serving_optimum.csv"), learned=load_model())
    (tmp_path / "decisions.csv").write_text(decisions_csv(found))
    scores = scorer()(str(DATA / "serving_optimum.csv"), str(tmp_path / "decisions.csv"), as_json=True)
    assert scores["joint"]["mean_regret_pct"] < 1.8
    assert scores["slots"]["mean_regret_pct"] < 3.0
    assert scores["latency"]["mean_regret_pct"] < 4.5
    for question in scores.values():
        assert question["advised_and_did_not_start"] == question["advised_and_starved"] == 0
