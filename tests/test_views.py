"""How runs, plans and sweeps look in a notebook, and runs as tables of other libraries."""

from __future__ import annotations

import sys
from html.parser import HTMLParser

import numpy as np
import pytest

import loratwin
from loratwin import notebook
from loratwin.errors import InputError
from loratwin.plan import explanation, plan_text, verdict
from loratwin.records import Run
from tests.metrics.runs import make_run
from tests.plan.small import NASTY, impossible, served
from tests.report.measured import measured
from tests.simulate.servers import CONFIG, PROFILE, SPEC


class Text(HTMLParser):
    """The words of a piece of HTML, and whether all its elements are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def words(html: str) -> list[str]:
    text = Text(html)
    assert not text.open
    return text.words


def test_a_run_is_a_line() -> None:
    run = measured()
    assert repr(run) == f"<Run: {run.headline}, max_loras {run.config.max_loras}, INVALID>"
    assert run.headline == "measured, vllm-0.8.5, llama, H100, 300 adapters, 31.8 requests/s, 120 s"


def test_a_run_in_a_notebook_says_where_it_comes_from_and_what_is_wrong_with_it() -> None:
    run = measured()
    seen = words(run._repr_html_())
    assert seen[0] == run.headline
    assert f"INVALID: {run.invalid[0]}" in seen
    assert f"{len(run.requests):,}" in seen
    assert any(f"max_loras {run.config.max_loras}" in word for word in seen)


def test_a_plan_is_its_verdict_and_in_a_notebook_also_the_alternatives() -> None:
    plan = served()
    assert repr(plan) == f"<Plan: {verdict(plan)}>"
    seen = words(plan._repr_html_())
    assert seen[: 1 + len(explanation(plan))] == [verdict(plan), *explanation(plan)]
    assert "chosen" in seen and "tokens/s" in seen
    assert words(impossible()._repr_html_())[0].startswith("None works")


def test_names_are_text() -> None:
    assert words(notebook.view(NASTY, notebook.table([(NASTY, "1")], ("a", "b")), notebook.lines([NASTY]))) == [
        NASTY, "a", "b", NASTY, "1", NASTY
    ]  # fmt: skip
    assert notebook.lines([]) == ""


def test_a_sweep_is_a_line() -> None:
    swept = loratwin.sweep(SPEC, PROFILE, [CONFIG, CONFIG.replace(max_loras=4)], name="mine")
    assert repr(swept) == f"<Sweep: mine on {PROFILE.name}, max_loras 8, 4, 1 seed>"


def test_as_text_is_what_the_commands_print() -> None:
    swept = loratwin.sweep(SPEC, PROFILE, [CONFIG], name="mine")
    assert loratwin.as_text(swept).startswith("mine: 24 adapters")
    assert loratwin.as_text(served()) == plan_text(served())
    assert loratwin.as_text(measured()).startswith(f"measured: {measured().headline}")
    assert loratwin.as_text({"one": measured(), "two": measured()}).startswith("one: measured")
    assert loratwin.as_text(PROFILE).startswith(PROFILE.name)
    assert loratwin.as_text(loratwin.predict(SPEC.model_copy(update={"base": None}), PROFILE)).startswith("One GPU")
    with pytest.raises(TypeError, match="int has no text; what has: Run, "):
        loratwin.as_text(3)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run() -> Run:
    return loratwin.simulate_run(loratwin.draw(SPEC, seed=0), PROFILE, CONFIG)


def test_requests_as_a_table_of_pandas(run: Run) -> None:
    pandas = pytest.importorskip("pandas")
    table = run.to_pandas()
    assert isinstance(table, pandas.DataFrame) and len(table) == len(run.requests)
    assert list(table.columns) == list(run.request_columns())
    assert np.array_equal(table["finish_s"], run.requests.finish_s, equal_nan=True)
    assert set(table["adapter_name"]) <= {*run.adapters.name, ""}


def test_requests_as_a_table_of_pyarrow(run: Run) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = run.to_arrow()
    assert isinstance(table, pyarrow.Table) and table.num_rows == len(run.requests)
    assert table.column_names == list(run.request_columns())


@pytest.mark.parametrize(("library", "extra"), [("pandas", "pandas"), ("pyarrow", "parquet")])
def test_a_library_that_is_not_there_is_said(
    run: Run, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    table = run.to_pandas if library == "pandas" else run.to_arrow
    with pytest.raises(InputError, match=rf"to_\w+\(\) needs {library}: pip install 'loratwin\[{extra}\]'"):
        table()


def test_a_report_of_one_run_and_of_several(run: Run, tmp_path) -> None:  # type: ignore[no-untyped-def]
    alone = loratwin.write_report(run, tmp_path / "alone.html", slo="ttft_p99=2s")
    few = make_run([0.0, 1.0], first=[1.0, 2.0], finish=[2.0, 3.0])
    both = loratwin.write_report({"a": few, "b": few}, tmp_path / "both.html")
    assert "ttft_p99=2s" in alone.read_text() and "b (simulated)" in both.read_text()
    with pytest.raises(InputError, match="the report is an HTML file"):
        loratwin.write_report(run, tmp_path / "alone.pdf")
