"""Lines of progress where there is no terminal: one for each stage, and one every so often while nothing is told."""

from __future__ import annotations

import threading

import pytest

from loratwin import progress
from loratwin.progress import stage_lines

LONG_S = 1000.0


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(progress, "_say", lines.append)
    return lines


def test_a_stage_is_announced_once(said: list[str]) -> None:
    with stage_lines(LONG_S) as report:
        for done in range(3):
            report("fitting", done, 3)
        report("predicting", 0, 7)
    assert said == ["fitting (3)", "predicting (7)"]


def test_who_is_told_nothing_for_long_hears_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, lines = threading.Event(), []

    def say(line: str) -> None:
        lines.append(line)
        if "2 of 3" in line:
            heard.set()

    monkeypatch.setattr(progress, "_say", say)
    with stage_lines(0.01, announce=False) as report:
        report("fitting", 2, 3)
        assert heard.wait(60)
    assert lines[0].startswith("fitting: 2 of 3, ")
    assert lines[0].endswith(" so far")


def test_nothing_is_said_before_anything_began_nor_after_the_end(said: list[str]) -> None:
    before = threading.active_count()
    with stage_lines(LONG_S):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    assert said == []


def test_the_thread_ends_with_an_error(said: list[str]) -> None:
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), stage_lines(LONG_S):
        raise KeyboardInterrupt
    assert threading.active_count() == before
