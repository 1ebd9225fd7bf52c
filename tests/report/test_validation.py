"""The accuracy report: every table and figure, whole, safe, and the same bytes every time."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loratwin.report.validation import (
    LABELS,
    UNITS,
    kv_sentence,
    sections,
    shape_table,
    validation_html,
    validation_markdown,
    worst_table,
)
from loratwin.validate import Decision, Prediction
from loratwin.validate.crossval import Validation
from loratwin.validate.decisions import Point
from loratwin.validate.scores import METRICS
from tests.calibrate.measured import LLAMA, QWEN, Row, by_hand, row, serving_runs
from tests.report.page import Page
from tests.slow import slow

NASTY = '<b>& "$x_1$"|'
FIGURES: dict[str, Any] = {
    "itl_mean_ms": 20.0,
    "tpot_mean_ms": 20.0,
    "ttft_mean_ms": 100.0,
    "ttft_median_ms": 80.0,
    "running_mean": 12.0,
}


def measured_row(name: str, total: float, **changes: Any) -> Row:
    return by_hand(row(name, kv_tokens=100_000, **changes), total, **FIGURES)


def prediction(name: str, total: float, **changes: Any) -> Prediction:
    return replace(Prediction(name, total, **FIGURES, kv_tokens=100_100, starts=1), **changes)


@pytest.fixture
def v(tmp_path: Path) -> Validation:
    return sample(tmp_path)


def sample(folder: Path) -> Validation:
    """Five runs of two LLMs, one of them saturated, two that did not start as predicted or at all."""
    runs = serving_runs(
        folder,
        measured_row(NASTY, 1000),
        measured_row("saturated", 500, rate=0.3) | {"waiting_mean": "100"},
        measured_row("qwen", 1000, model=QWEN.name),
        measured_row("not started", 1000),
        row("oom", outcome="out_of_memory", slots=32),
    )
    predictions = (
        prediction(NASTY, 1100),
        prediction("saturated", 400, ttft_mean_ms=150.0),
        prediction("qwen", 980),
        Prediction("not started", kv_tokens=10),
        Prediction("oom"),
    )
    decision = Decision((LLAMA.name, "0.1", "8 16"), "joint", 32, Point(32, 16, 1.0, 1.0, 1.0))
    published = ((runs[0], Prediction(NASTY, total_throughput=1090, itl_mean_ms=25, starts=1)),)
    return Validation(tuple(runs), predictions, (decision,), published, "every workload left out in turn")


def rows_of(v: Validation, title: str) -> list[tuple[str, ...]]:
    return [tuple(line) for line in dict(sections(v))[title][1]]


def test_the_tables_hold_the_scores(v: Validation) -> None:
    errors = {line[:2]: line[2:] for line in rows_of(v, "Errors on held-out workloads")}
    # +10 %, -20 %, -2 %, and -100 % for the one that was said not to start
    assert errors["throughput", "all"] == ("4", "33.0 %", "15.0 %", "76.0 %", "-28.0 %")
    assert errors["throughput", "saturated"] == ("1", "20.0 %", "20.0 %", "20.0 %", "-20.0 %")
    assert rows_of(v, "Starved and starts")[1] == ("starts", "3", "1", "1", "0")
    assert rows_of(v, "AdviceScore on the measured grids")[0][:2] == ("joint", "1")
    assert rows_of(v, "The published twin on the runs that it predicted")[0][:4] == ("throughput", "all", "1", "9.0 %")
    assert rows_of(v, "Throughput error by workload")[-1] == (QWEN.name, "0.1 | 8 16", "1", "2.0 %", "-2.0 %")


def test_the_worst_are_first(v: Validation) -> None:
    _, rows = worst_table(v, "total_throughput")
    assert [(line[0], *line[2:]) for line in rows] == [
        ("not started", "1000", "none", "-100 %"),
        ("saturated", "500", "400", "-20 %"),
        (NASTY, "1000", "1100", "+10 %"),
        ("qwen", "1000", "980", "-2 %"),
    ]


def test_kv_capacity_in_a_sentence(v: Validation) -> None:
    assert "for 4 servers: mean absolute error 25.07 %, worst 99.99 %." in kv_sentence(v)


def test_without_the_published_twin_there_is_no_section_of_it(v: Validation) -> None:
    without = replace(v, published=())
    assert len(sections(without)) == len(sections(v)) - 1
    assert "published twin" not in validation_markdown(without)


def test_markdown(v: Validation) -> None:
    text = validation_markdown(v)
    assert text.startswith("# How good the twin is\n\n")
    assert text.endswith("|\n")
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert len(tables) == len(sections(v))
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert NASTY.replace("|", "\\|") in text
    assert "nan" not in text.split()


def test_html_is_whole_and_needs_nothing_else(v: Validation) -> None:
    text = validation_html(v)
    page = Page(text)
    assert text.lstrip().startswith("<!doctype html>")
    assert (page.unclosed, page.badly_closed) == ([], [])
    names = [tag for tag, _ in page.tags]
    assert names.count("svg") == len(METRICS)
    assert names.count("table") == len(sections(v))
    assert not {"link", "img", "iframe", "object", "embed"} & set(names)
    attributes = [(name, value or "") for _, found in page.tags for name, value in found.items()]
    links = [value for name, value in attributes if name in ("href", "xlink:href", "src")]
    assert all(link.startswith(("#", "data:text/csv")) for link in links)
    assert not re.search(r"url\((?!#)|@import", text)
    ids = [value for name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_names_are_shown_and_never_understood(v: Validation) -> None:
    page = Page(validation_html(v))
    assert "b" not in {tag for tag, _ in page.tags}
    assert NASTY in page.text


def test_every_metric_has_its_figure_with_its_unit(v: Validation) -> None:
    page = Page(validation_html(v))
    assert set(LABELS) == set(UNITS) == set(METRICS)
    for metric in METRICS:
        assert LABELS[metric] in page.text
        assert f"measured, {UNITS[metric]}" in page.text


@slow
def test_the_same_validation_gives_the_same_bytes(v: Validation) -> None:
    assert validation_html(v) == validation_html(v)
    assert validation_markdown(v) == validation_markdown(v)


def test_points_are_those_of_the_regime(v: Validation) -> None:
    """One mark for each run that was measured and predicted, in the colour of its regime."""
    from loratwin.report.validation_figures import COLOURS, _points

    assert _points(v, "total_throughput", "open") == ([1000, 1000], [1100, 980])
    assert _points(v, "total_throughput", "saturated") == ([500], [400])
    text = validation_html(v)
    assert all(colour in text for colour in COLOURS.values())


def test_what_nobody_measured_leaves_a_gap(v: Validation) -> None:
    """No TTFT, no KV capacity, no advice: the report is still made, and says no `nan`."""
    hidden = {"ttft_mean_ms": "", "ttft_median_ms": "", "kv_tokens": ""}
    runs = tuple(replace(run, row={**run.row, **hidden}) for run in v.runs)
    bare = replace(v, runs=runs, decisions=())
    assert shape_table(bare, "ttft_median_ms")[1] == []
    assert "KV capacity was not measured." in validation_markdown(bare)
    assert "nan" not in Page(validation_html(bare)).text.replace("%", " ").split()
