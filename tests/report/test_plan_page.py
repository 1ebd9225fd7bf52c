"""The report of a plan: whole, self-contained, the same every time, and safe against names."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from loratwin.plan import Plan, serve_command, verdict
from loratwin.report import plan_report
from loratwin.report.plan_page import worst_adapters
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
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed"}
    assert page.attributes("src") == []
    assert all(link.startswith("#") for link in (*page.attributes("href"), *page.attributes("xlink:href")))
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
        ({"kv_gib": 1.0}, "one server", "one server serves"),
        ({"tensor_parallel": 2}, "2 GPUs together", "2 GPUs together serve"),
    ],
)
def test_what_serves_is_what_the_profile_is_of(memory: dict[str, object], server: str, serves: str) -> None:
    found = on(overloaded(), **memory)
    text = Page(plan_report(found)).text
    assert f"All 24 adapters on {server}" in text
    assert f"The {len(found.served)} adapters that {serves}" in text
    assert "this GPU" not in text and ("one gpu" in text.lower()) == (not memory)


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
    assert "<script" not in text
    page = Page(text)
    assert NASTY in page.text  # as the workload
    assert {row.name for row in worst_adapters(served().run, count=24)} >= {NASTY}
    everything = Page(report(overloaded))
    assert NASTY in everything.text  # among the adapters


def test_commands_can_be_copied() -> None:
    found = overloaded()
    page = Page(report(overloaded))
    for version in ("0.8.5", "current"):
        assert serve_command(found, version) in "".join(page.words)


def test_figures_describe_themselves() -> None:
    pictures = [attributes for tag, attributes in Page(report(served)).tags if tag == "svg"]
    assert len(pictures) == 5
    assert all(each["role"] == "img" and each["aria-label"] for each in pictures)


def test_leaving_the_domain_is_a_banner() -> None:
    found = served()
    assert found.best is not None
    inside = replace(found, choice=replace(found.choice, best=replace(found.best, notes=())))
    outside = replace(found, choice=replace(found.choice, best=replace(found.best, notes=("beyond <all>",))))
    assert "Extrapolated" not in Page(plan_report(inside)).text
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


def test_the_worst_come_first() -> None:
    found = overloaded()
    assert found.run is not None
    rows = worst_adapters(found.run)
    assert [row.starved for row in rows] == sorted((row.starved for row in rows), reverse=True)
    bars = [row.bar for row in rows if not row.starved]
    assert bars == sorted(bars, reverse=True)
    assert all(0 <= row.bar <= 100 for row in rows)
