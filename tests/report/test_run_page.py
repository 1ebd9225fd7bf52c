"""The report of runs: whole, self-contained, safe against names, and every part only where there is something."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.metrics import client_per_adapter, failures_by_kind, parse_slo, slo_rows, summarize
from loratwin.records import GapHistogram
from loratwin.report import run_report
from loratwin.report.looks import looks
from loratwin.report.run_tables import adapters_table, run_tables
from loratwin.report.tables import table_csv
from tests.metrics.runs import make_run
from tests.report.measured import NASTY, measured, simulated
from tests.report.page import Page
from tests.slow import slow

SLO = parse_slo("ttft_p99=60s,tpot_mean=1ms")


@cache
def both() -> str:
    """A measured run and the twin's, with a name that is best not trusted."""
    return run_report({NASTY: measured(), "twin": simulated()}, SLO)


@cache
def alone() -> str:
    """A simulated run without steps, as `loratwin simulate -o` writes it."""
    return run_report({"twin": replace(simulated(), steps=None)})


@pytest.mark.parametrize("made", [both, alone])
def test_the_page_is_well_formed_and_needs_nothing_else(made) -> None:  # type: ignore[no-untyped-def]
    text = made()
    page = Page(text)
    assert text.lstrip().startswith("<!doctype html>")
    assert page.badly_closed == []
    assert page.unclosed == []
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "embed"}
    assert page.attributes("src") == []
    links = (*page.attributes("href"), *page.attributes("xlink:href"))
    assert all(link.startswith(("#", "data:text/csv")) for link in links)
    assert not re.search(r"url\((?!#)|@import", text)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.attributes("xlink:href")} <= set(ids)


def test_names_are_shown_and_never_understood() -> None:
    assert both().count("<script") == 1  # ours
    text = Page(both()).text
    assert text.count(NASTY) >= 6  # the run, an adapter, a failure, a reason, an argument of the server


def test_an_invalid_run_says_so_at_the_top_with_its_reasons() -> None:
    text = Page(both()).text
    assert text.index("Invalid: ") < text.index("Over time")
    assert measured().invalid[0] in text
    assert "Invalid" not in Page(alone()).text


def test_every_run_says_what_it_is() -> None:
    badges = [attributes["class"] for tag, attributes in Page(both()).tags if tag == "span" and "class" in attributes]
    assert "badge measured" in badges
    assert "badge simulated" in badges
    assert "badge measured" not in [
        attributes.get("class") for _, attributes in Page(alone()[: alone().index("Evidence")]).tags
    ]


def test_figures_and_differences_stand_in_the_table() -> None:
    text = Page(both()).text
    ours, twins = (summarize(run).tpot_mean_ms for run in (measured(), simulated()))
    assert f"TPOT mean {ours:.3g} ms {twins:.3g} ms" in text  # evened out, a no-break space is one
    assert f"{100 * (twins - ours) / ours:+.1f} %" in text
    assert "met" in text
    assert "missed" in text


def test_pictures_describe_themselves_and_come_only_where_there_is_something() -> None:
    pictures = [attributes for tag, attributes in Page(both()).tags if tag == "svg"]
    assert all(each["role"] == "img" and each["aria-label"] for each in pictures)
    labels = " ".join(str(each["aria-label"]) for each in pictures)
    for words in ("Requests in flight", "Send lag", "Gaps between tokens", "KV memory in use", "Power, W (GPU 0)"):
        assert words in labels
    alone_labels = " ".join(str(each["aria-label"]) for tag, each in Page(alone()).tags if tag == "svg")
    assert "Requests in flight" in alone_labels
    assert "Send lag" not in alone_labels
    for words in ("The GPU", "The server", "Engine steps", "Failures", "Send lag"):
        assert f"<h2>{words}</h2>" in both()
        assert f"<h2>{words}</h2>" not in alone()


def test_failures_are_counted_by_kind() -> None:
    text = Page(both()).text
    found = failures_by_kind(measured())
    assert len(found) == 2
    for kind, count in found:
        assert f"{kind} {count}" in text


def test_adapters_stand_in_the_order_of_what_they_got() -> None:
    figures = client_per_adapter(measured())
    names = [figures.name[i] for i in figures.worst_first()]
    assert len(names) > 250
    table = adapters_table(looks({"mine": measured()})[0])
    assert [row.cells[0].value for row in table.rows] == names
    at = Page(both()).text
    assert at.index(names[0]) < at.index(names[1])


def test_adapters_that_miss_the_slo_or_have_too_few_requests_say_so() -> None:
    (look,) = looks({"twin": simulated()})
    slo = parse_slo("ttft_p99=20s")
    verdicts = {row.cells[0].value: row.cells[-1].value for row in adapters_table(look, slo).rows}
    missing = slo_rows(look.run, slo).missing
    assert missing and all("misses the SLO" in str(verdicts[name]) for name in missing)
    assert "too few requests for a p99" in verdicts.values()
    few = [row for row in adapters_table(look).rows if row.cells[-1].value == "too few requests for a p99"]
    assert all(int(row.cells[2].value) < 100 for row in few)


def test_csv_has_every_figure_of_every_run() -> None:
    first, *_ = run_tables({"a": measured(), "b": simulated()})
    lines = {line["figure"]: line for line in csv.DictReader(io.StringIO(table_csv(first)))}
    ours, twins = (summarize(run).tpot_mean_ms for run in (measured(), simulated()))
    line = lines["TPOT mean"]
    assert [float(line["a"]), float(line["b"])] == pytest.approx([ours, twins], rel=1e-5)
    assert float(line["b relative to a"]) == pytest.approx(twins / ours, rel=1e-5)
    assert line["unit"] == "ms"


def made_small() -> str:
    """Two small runs, of different workloads, on different servers."""
    failing = make_run(
        [0.0, 1.0], first=[1.0, 2.0], finish=[2.0, 3.0], sent=[0.0, 1.0], scheduled=[0.0, 0.9], kind="measured",
        failure=[-1, 0], failures=("HTTP 500",), adapter=[0, 1],
    )  # fmt: skip
    other = make_run([0.0], first=[1.0], finish=[2.0])
    return run_report({"a": failing, "b": replace(other, config=other.config.replace(max_loras=2))})


small = cache(made_small)


def test_workloads_and_servers_that_differ_are_noted() -> None:
    text = Page(small()).text
    assert "The workloads differ: requests 2 | 1; prompt tokens 20 | 10." in text
    assert "The servers differ: max_loras 1 | 2." in text
    assert "The workloads differ" not in Page(alone()).text


@slow
def test_the_same_runs_give_the_same_bytes() -> None:
    assert made_small() == small()


@slow
def test_the_same_runs_give_the_same_bytes_in_another_process() -> None:
    program = "from tests.report.test_run_page import small; import sys; sys.stdout.buffer.write(small().encode())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode() == small()


@pytest.mark.parametrize(
    "run",
    [
        make_run([]),
        pytest.param(make_run([1.0], kind="measured", sent=[float("nan")], scheduled=[1.0]), marks=slow),
        pytest.param(
            make_run([1.0], kind="measured", sent=[1.0], scheduled=[1.0], failure=[0], failures=("HTTP 500",)),
            marks=slow,
        ),
        pytest.param(
            make_run([1.0], first=[2.0], finish=[2.0], output=[1], adapter=[-1], num_adapters=0), marks=slow
        ),
        pytest.param(
            make_run([1.0], first=[1.0], finish=[1.0], sent=[1.0], scheduled=[1.0], kind="measured"), marks=slow
        ),
        make_run(
            [1.0], first=[2.0], sent=[1.0], scheduled=[1.0], received=[9], kind="measured", num_adapters=0,
            adapter=[-1], gaps=GapHistogram(np.full((1, 20), 2)),
        ),
    ],
    ids=["nothing", "never sent", "failed", "one token", "at once", "gaps, and nothing finished"],
)  # fmt: skip
def test_runs_of_which_little_is_known_have_a_report(run) -> None:  # type: ignore[no-untyped-def]
    page = Page(run_report({"one": run, "two": replace(run, kv_tokens=None)}))
    assert page.badly_closed == []
    assert "nan" not in page.text.lower().split()


def test_no_run_is_refused() -> None:
    with pytest.raises(InputError, match="at least one run"):
        run_report({})


def test_the_measured_fixture_is_what_it_says() -> None:
    run = measured()
    assert len(run.adapters) == 300
    assert (run.requests.failure >= 0).sum() > 50
    assert np.isnan(run.requests.finish_s).sum() > 200
