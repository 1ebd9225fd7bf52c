"""The report of a plan: whole, self-contained, the same every time, and safe against names."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from loratwin.metrics import Interval, parse_slo
from loratwin.plan import Plan, serve_command, verdict
from loratwin.report import plan_report
from loratwin.report.plan_tables import adapters_table, alternatives_table, plan_tables, too_few
from loratwin.report.tables import Cell, Table, Value, table_csv
from tests.plan.small import NASTY, impossible, on, overloaded, served
from tests.report.page import Page
from tests.slow import slow

PLANS = [served, overloaded, impossible]


@cache
def report(made: Callable[[], Plan]) -> str:
    """The page of one of the plans, made once."""
    return plan_report(made())


@pytest.mark.parametrize("made", PLANS)
def test_the_page_is_well_formed_and_needs_nothing_else(made: Callable[[], Plan]) -> None:
    text = report(made)
    page = Page(text)
    assert text.lstrip().startswith("<!doctype html>")
    assert page.badly_closed == []
    assert page.unclosed == []
    names = [tag for tag, _ in page.tags]
    assert not {*names} & {"link", "img", "iframe", "object", "embed"}
    assert names.count("script") == 1
    assert page.attributes("src") == []
    links = (*page.attributes("href"), *page.attributes("xlink:href"))
    assert all(link.startswith(("#", "data:text/csv")) for link in links)
    assert not re.search(r"url\((?!#)|@import", text)


@pytest.mark.parametrize("made", PLANS)
def test_ids_are_unique_and_links_lead_somewhere(made: Callable[[], Plan]) -> None:
    page = Page(report(made))
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.attributes("xlink:href")} <= set(ids)


@pytest.mark.parametrize("made", PLANS)
def test_the_verdict_stands_at_the_top(made: Callable[[], Plan]) -> None:
    found: Plan = made()
    text = Page(report(made)).text
    assert verdict(found) in text
    assert text.index(verdict(found)) < text.index("The alternatives")


@pytest.mark.parametrize(
    ("memory", "server", "serves"),
    [
        ({}, "one GPU", "one GPU serves"),
        pytest.param({"kv_gib": 1.0}, "one server", "one server serves", marks=slow),
        ({"tensor_parallel": 2}, "2 GPUs together", "2 GPUs together serve"),
    ],
)
def test_what_serves_is_what_the_profile_is_of(memory: dict[str, object], server: str, serves: str) -> None:
    found = on(overloaded(), **memory)
    text = Page(plan_report(found)).text
    assert f"All 24 adapters on {server}" in text
    assert f"The {len(found.served)} adapters that {serves}" in text
    assert "this GPU" not in text and ("one gpu" in text.lower()) == (not memory)


@slow
def test_the_same_plan_gives_the_same_bytes() -> None:
    assert plan_report(impossible()) == report(impossible)


@slow
def test_another_process_gives_the_same_bytes() -> None:
    program = "from tests.plan.small import impossible; from loratwin.report import plan_report; import sys"
    program += "; sys.stdout.buffer.write(plan_report(impossible()).encode())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode() == report(impossible)


def test_names_are_shown_and_never_understood() -> None:
    text = plan_report(replace(served(), workload=NASTY))
    assert text.count("<script") == 1  # ours
    page = Page(text)
    assert NASTY in page.text  # as the workload
    assert NASTY in column(adapters_table(served().run), "adapter")
    everything = Page(report(overloaded))
    assert NASTY in everything.text  # among the adapters


def test_commands_can_be_copied() -> None:
    found = overloaded()
    page = Page(report(overloaded))
    for version in ("0.8.5", "current"):
        assert serve_command(found, version) in "".join(page.words)


def test_figures_describe_themselves() -> None:
    pictures = [attributes for tag, attributes in Page(report(served)).tags if tag == "svg"]
    assert len(pictures) == 9
    assert all(each["role"] == "img" and each["aria-label"] for each in pictures)


def test_leaving_the_domain_is_a_banner() -> None:
    found = served()
    assert found.best is not None
    assert not found.best.notes
    outside = replace(found, choice=replace(found.choice, best=replace(found.best, notes=("beyond <all>",))))
    assert "Extrapolated" not in Page(report(served)).text
    text = Page(plan_report(outside)).text
    assert "Extrapolated" in text
    assert "beyond <all>" in text


def test_figures_say_what_they_are() -> None:
    text = Page(report(served)).text
    for word in ("simulated", "measured", "assumed"):
        assert word in text


def test_the_card_is_shown_with_its_held_out_errors() -> None:
    found = served()
    errors = {"total_throughput, all": "2.5 % (MAPE)", "total_throughput, open": "1 %", "<odd>, all": "9 %"}
    card = found.profile.card.model_copy(update={"held_out_error": errors})
    shown = replace(found, profile=found.profile.model_copy(update={"card": card}))
    text = Page(plan_report(shown)).text
    assert "Held-out error" in text
    assert "all open throughput 2.5 % (MAPE) 1 % <odd> 9 %" in text


def test_when_nothing_works_there_is_no_command_and_nothing_chosen() -> None:
    text = Page(report(impossible)).text
    assert "Run this" not in text
    assert "chosen" not in text
    assert "misses ttft_p99" in text


def column(table: Table, key: str) -> list[Value]:
    """The values of a column."""
    at = [each.key for each in table.columns].index(key)
    return [row.cells[at].value for row in table.rows]


def test_the_worst_come_first() -> None:
    found = overloaded()
    assert found.run is not None
    table = adapters_table(found.run)
    starving = [row.look == "starved" for row in table.rows]
    assert starving == sorted(starving, reverse=True)
    bars = [row.cells[5].bar for row in table.rows if not row.look]
    assert bars == sorted(bars, reverse=True)
    assert all(0 <= bar <= 100 for bar in bars if bar is not None)


def test_every_configuration_that_was_simulated_is_in_the_table() -> None:
    found = served()
    assert len({each.config.max_num_seqs for each in found.alternatives}) == 2
    table = alternatives_table(found, found.alternatives)
    shown = set(zip(column(table, "max_loras"), column(table, "max_num_seqs"), strict=True))
    assert shown == {(each.slots, each.config.max_num_seqs) for each in found.alternatives}
    assert column(table, "verdict").count("chosen") == 1


def test_a_missed_limit_is_red_where_its_figure_stands() -> None:
    found = impossible()
    table = alternatives_table(found, found.alternatives)
    at = [each.key for each in table.columns].index("real_ttft_p99_ms")
    assert len(table.rows) == len(found.alternatives) > 0
    for row in table.rows:
        assert [i for i, cell in enumerate(row.cells) if cell.look == "bad"] == [
            2,
            at,
        ]  # the verdict, and its figure


def test_a_limit_on_another_figure_has_a_column_of_its_own() -> None:
    found = replace(impossible(), slo=parse_slo("tpot_p99=1ms"))
    slow = [replace(each, slo_s={"tpot_p99": Interval(0.016, 0.0, 1, 0.95)}) for each in found.alternatives]
    table = alternatives_table(found, slow)
    assert column(table, "tpot_p99_ms") == [16.0, 16.0]


def test_who_has_too_few_requests_for_a_percentile_is_said() -> None:
    found = served()
    assert found.run is not None
    table = adapters_table(found.run)
    few = [row.cells[0].value for row in table.rows if row.cells[6].value == "too few requests for a p99"]
    finished = {name: 0 for name in column(table, "adapter")}
    done = found.run.requests.finish_s <= found.run.window_s
    for adapter in found.run.requests.adapter[done]:
        finished[found.run.adapters.name[adapter]] += 1
    assert 0 < len(few) < len(finished)
    assert set(few) == {name for name, count in finished.items() if count < 100}
    assert too_few(found.run).startswith(f"{len(few)} of {len(finished)} adapters")


def test_csv_holds_every_digit_and_no_formula() -> None:
    tables = plan_tables(overloaded())
    assert [table.name for table in tables][:3] == ["alternatives", "tried-for-all", "what-breaks-first"]
    lines = list(csv.DictReader(io.StringIO(table_csv(tables[0]))))
    best = overloaded().best
    assert best is not None
    chosen = next(line for line in lines if line["verdict"] == "chosen")
    assert float(chosen["ttft_mean_ms"]) == pytest.approx(best.mean("ttft_mean_ms"), rel=1e-5)
    names = [column["adapter"] for column in csv.DictReader(io.StringIO(table_csv(tables[3])))]
    assert NASTY in names
    harmless = replace(tables[3], rows=[replace(tables[3].rows[0], cells=[Cell("=1+1", "=1+1")])])
    assert table_csv(harmless).splitlines()[1] == "'=1+1"


def test_what_breaks_first_is_a_case_of_every_plan_that_works() -> None:
    found = served()
    assert found.biggest is not None
    (table,) = (table for table in plan_tables(found) if table.name == "what-breaks-first")
    assert column(table, "case")[:2] == ["as it is", "2 times as many requests"]
    text = Page(report(served)).text
    assert "all its requests within 0.5 minutes" in text and found.biggest.name in text
    assert "What breaks first" not in Page(report(impossible)).text
