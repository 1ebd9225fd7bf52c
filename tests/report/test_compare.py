"""Plans, profiles and runs side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from math import ceil, isnan
from pathlib import Path
from typing import Any

import pytest
import yaml

from loratwin.errors import InputError
from loratwin.plan import plan_json
from loratwin.plan.compare import PlanComparison, compare_plans, comparison_json, parse_prices
from loratwin.records import save_run
from loratwin.report import as_text, write_report, write_tables
from loratwin.report.compare import compare
from loratwin.workload.files import parse_spec
from tests.cli.program import loratwin
from tests.metrics.runs import make_run
from tests.plan.small import impossible, overloaded, served
from tests.report.page import Page

PROFILES = ("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct", "h100-64gb/vllm-0.8.5/qwen-2.5-7b-instruct")
WORKLOAD = """\
window_s: 60
groups:
  - {name: customer, count: 6, total_rate: 2, ranks: 8}
"""


@cache
def saved() -> dict[str, dict[str, Any]]:
    """What --json writes of three plans: all are served, some are, none can be."""
    made = {"all": served(), "some": overloaded(), "none": impossible()}
    return {name: json.loads(json.dumps(plan_json(plan))) for name, plan in made.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three plans, two runs and a workload."""
    for name, data in saved().items():
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    fast = make_run([0.0, 1.0], first=[0.001, 1.001], finish=[1.0, 2.0])
    save_run(fast, tmp_path / "fast.json")
    save_run(make_run([0.0, 1.0], first=[3.0, 4.0], finish=[5.0, 6.0]), tmp_path / "slow.json")
    (tmp_path / "mine.yaml").write_text(WORKLOAD)
    (tmp_path / "odd.json").write_text("{}")
    old: Mapping[str, Any] = {key: value for key, value in saved()["all"].items() if key != "gpus_per_server"}
    (tmp_path / "old.json").write_text(json.dumps(old))
    return tmp_path


def test_a_saved_plan_and_the_plan_itself_are_alike() -> None:
    found = compare_plans({"saved": saved()["some"], "made": overloaded()})
    one, other = found.plans
    assert {**vars(one), "name": "", "price": 0} == {**vars(other), "name": "", "price": 0}


def test_gpus_and_costs_at_the_same_mix() -> None:
    plan = overloaded()
    assert plan.best is not None
    one, none = compare_plans({"some": saved()["some"], "none": saved()["none"]}, 2.5).plans
    servers = ceil(24 / len(plan.served))
    assert servers > 1 and (one.servers, one.gpus, one.cost_per_hour) == (servers, servers, 2.5 * servers)
    tokens_per_hour = 3600 * plan.best.throughput * 24 / len(plan.served)
    assert one.cost_per_million_tokens == pytest.approx(1e6 * one.cost_per_hour / tokens_per_hour)
    assert isnan(none.gpus) and isnan(none.cost_per_hour)


def test_gpus_that_share_the_llm_count_each() -> None:
    doubled = {**saved()["some"], "gpus_per_server": 2}
    one, two = compare_plans({"one": saved()["some"], "two": doubled}).plans
    assert two.gpus == 2 * one.gpus


def test_what_differs_in_the_question_is_noted() -> None:
    notes = compare_plans({"all": saved()["all"], "none": saved()["none"]}).notes
    assert notes == ("the workloads differ: served | workload", "the SLOs differ: none | ttft_p99=1ms")


def test_text_page_csv_and_json_say_the_same(tmp_path: Path) -> None:
    found = compare_plans({"all": saved()["all"], "some": saved()["some"]}, {"all": 2.0, "some": 1.0})
    text = as_text(found)
    assert f"{len(overloaded().served)} of 24" in text and "cost per million tokens" in text
    assert "x " in text  # the overloaded one has many times the throughput
    page = Page(write_report(found, tmp_path / "c.html").read_text())
    assert (page.badly_closed, page.unclosed) == ([], [])
    assert "GPUs for all adapters" in page.text
    (table,) = write_tables(found, tmp_path / "tables")
    assert table.read_text().startswith("figure,all,some")
    first, second = comparison_json(found)["plans"]
    assert first["cost_per_hour"] == 2.0 and second["cost_per_hour"] == second["gpus"]
    assert "cost" not in as_text(compare_plans({"all": saved()["all"], "some": saved()["some"]}))


def test_profiles_are_planned_for_the_same_workload() -> None:
    spec = parse_spec(yaml.safe_load(WORKLOAD))
    found = compare(PROFILES, workload=spec, seeds=(0,), slots=[2, 6], max_num_seqs=64, workload_name="mine")
    assert isinstance(found, PlanComparison)
    assert [each.name for each in found.plans] == list(PROFILES)
    assert {each.served for each in found.plans} == {6} and found.notes == ()
    assert found.plans[0].ttft_mean_ms != found.plans[1].ttft_mean_ms


def test_runs_are_shown_by_their_names_and_far_ones_as_a_factor(folder: Path) -> None:
    done = loratwin("compare", "fast.json", "slow.json", "-o", "runs.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "x 3,000" in done.stdout
    page = (folder / "runs.html").read_text()
    assert "fast (simulated)" in page and "slow (simulated)" in page
    assert "(300" not in page


def test_the_command_compares_plans(folder: Path) -> None:
    options = ("--price", "all=2", "--price", "some=1", "-o", "c.html", "--csv", "t", "--json", "c.json")
    done = loratwin("compare", "all.json", "some.json", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["all", "some"]
    assert (folder / "t" / "comparison.csv").exists() and (folder / "c.html").exists()
    assert json.loads((folder / "c.json").read_text())["plans"][0]["price_per_gpu_hour"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("all.json",), "compare: at least two are needed"),
        (("all.json", "all.json"), "all.json is given twice"),
        (("all.json", "absent.json"), "absent.json: cannot be read"),
        (("all.json", "odd.json"), "odd.json: is no plan; one is saved by loratwin plan --json FILE"),
        (("all.json", "old.json"), "old.json: has no 'gpus_per_server': an older loratwin wrote it"),
        (("all.json", "fast.json"), "fast.json is a run and all.json is not"),
        (("all.json", PROFILES[0]), "a profile is planned for a workload: add --workload FILE"),
        (("all.json", "h999", "--workload", "mine.yaml"), "unknown profile 'h999'"),
        (("all.json", "some.json", "--price", "much"), "--price 'much': expected 2.49 for all, or NAME=2.49"),
        (("all.json", "some.json", "--price", "-1"), "--price '-1': a price of 0 or more is expected"),
        (("all.json", "some.json", "--price", "al=1"), "unknown name (--price) 'al'. Did you mean 'all'?"),
        (("all.json", "some.json", "--price", "1", "--price", "2"), "one price is for all"),
        (("fast.json", "slow.json", "--price", "1"), "--price: goes with plans and profiles"),
        (("all.json", "some.json", "-o", "c.txt"), "c.txt: the report is an HTML file"),
    ],
)
def test_what_cannot_be_compared_is_one_line(arguments: tuple[str, ...], message: str, folder: Path) -> None:
    before = {item.name for item in folder.iterdir()}
    done = loratwin("compare", *arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert {item.name for item in folder.iterdir()} == before


def test_prices_are_read() -> None:
    assert parse_prices([]) is None and parse_prices(["2.49"]) == 2.49
    assert parse_prices(["a=1", "b = 2"]) == {"a": 1.0, "b": 2.0}
    with pytest.raises(InputError):
        parse_prices(["a=nan"])
