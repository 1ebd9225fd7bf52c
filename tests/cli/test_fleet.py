"""`loratwin fleet`: schedules and tuned weights as a user gets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratwin.fleet import save_placement
from tests.cli.program import loratwin
from tests.cli.results import LLAMA_PROFILE
from tests.cli.terminal import NARROW, faults
from tests.fleet import test_tuning as tuning

SCHEDULE = """\
window_s: 120
lengths: {prompt: 100, output: 50}
groups:
  - {name: a, ranks: 8, arrivals: {kind: clients, path: clients.csv}}
"""

TUNED = """\
window_s: 20
lengths: {prompt: 100, output: 50}
groups:
  - {name: a, count: 12, total_rate: 20, popularity: {kind: zipf, exponent: 1.2}, ranks: 8}
"""


def shown_twice(folder: Path, *words: str) -> dict[str, object]:
    """Run a command; its JSON, when its text was found to fit a terminal."""
    done = loratwin(*words, "--json", "found.json", cwd=folder, env=NARROW)
    assert done.returncode == 0, done.stderr
    assert done.stdout and faults(done.stdout) == []
    data: dict[str, object] = json.loads((folder / "found.json").read_text())
    return data


def test_traffic_that_drifts_gets_a_placement_for_each_period(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    rates = [(i, 60 * k, rate) for k, row in enumerate(((8, 4, 1), (1, 4, 8))) for i, rate in enumerate(row)]
    rows = [",".join(map(str, row)) for row in (("client", "start_s", "rate"), *rates)]
    (tmp_path / "clients.csv").write_text("\n".join(rows))
    (tmp_path / "w.yaml").write_text(SCHEDULE)
    words = ("fleet", "plan", "w.yaml", "--gpus", LLAMA_PROFILE, "--seeds", "1", "--processes", "1")
    files = ("-o", "fleet.html", "--csv", "tables")
    data = shown_twice(tmp_path, *words, "--every", "0.016667", "--moves", "40%", "--move-price", "1", *files)
    assert data["kind"] == "fleet schedule" and len(data["periods"]) == 2  # type: ignore[arg-type]
    assert data["most_moves_a_day"] == 1
    assert (tmp_path / "fleet.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {each.stem for each in (tmp_path / "tables").iterdir()} == {"periods", "servers", "adapters", "what-if"}
    done = loratwin(*words, "--every", "0.016667", "--moves", "many", cwd=tmp_path)
    assert done.returncode == 2 and "--moves 'many': write a number of adapters" in done.stderr


def test_weights_are_tuned_for_a_placement(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(TUNED)
    save_placement(tuning.placement(), tmp_path / "p.json")
    words = ("fleet", "tune", "p.json", "w.yaml", "--processes", "1", "--seeds", "1", "--check-seeds", "2")
    data = shown_twice(tmp_path, *words, "--grid", "lora=0,4", "--grid", "queue=0,2")
    assert len(data["tried"]) == 4  # type: ignore[arg-type]
    done = loratwin(*words, "--router", "fractions", cwd=tmp_path)
    assert done.returncode == 2 and "'fractions' has no scorers" in done.stderr
