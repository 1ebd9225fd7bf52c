"""The page docs/howto/platform-team.md: its commands answer the platform team's question. Executed as a user would."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from tests.cli.program import loratwin
from tests.markdown import blocks
from tests.slow import slow

COMMANDS = [shlex.split(block)[1:] for block in blocks("docs/howto/platform-team.md", "bash")]


def run(folder: Path, arguments: list[str]) -> Any:
    done = loratwin(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_three() -> None:
    assert [command[0] for command in COMMANDS] == ["examples", "plan", "plan"]


@slow
def test_they_answer_with_gpus_settings_the_tripled_customer_headroom_and_chance(tmp_path: Path) -> None:
    copy, ask, surer = COMMANDS
    run(tmp_path, copy)
    answer = run(tmp_path, ask)
    verdict, hour, *_ = answer.splitlines()
    assert verdict.startswith("One GPU serves all 150 adapters with ") and "with 20 % headroom" in verdict
    assert "the chance that this holds is 9" in verdict
    assert hour.startswith("Planned for the busiest hour, 1") and "over all 24 hours it serves 100 %" in hour
    assert "Margin: all rates can grow by" in answer and "--max-loras" in answer
    tripled = next(line for line in answer.splitlines() if line.startswith("big-0 x 3"))
    assert tripled.split()[3] == "150" and tripled.rstrip().endswith(" %")
    assert (tmp_path / "plan.html").is_file()
    assert "with 40 % headroom" in run(tmp_path, surer)
