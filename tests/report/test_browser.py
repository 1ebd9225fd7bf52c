"""The pages in a real Chromium: quiet, as wide as the window, for everybody, on paper, and without scripts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from loratwin.experiments import RunTable
from loratwin.plan.compare import compare_plans
from loratwin.report import plan_report, run_report
from loratwin.report.compare import comparison_page
from loratwin.report.fleet_page import fleet_page
from loratwin.report.grid_page import grid_html
from loratwin.report.schedule_page import schedule_page
from loratwin.report.validation import validation_html
from tests.plan.small import impossible, overloaded, served
from tests.report.browser import chromium, opened
from tests.report.measured import measured, simulated
from tests.report.test_fleet_page import planned
from tests.report.test_schedule_page import scheduled
from tests.report.test_validation import sample
from tests.slow import slow


def validation_page() -> str:
    """Of a handful of runs, some of which do not start."""
    with TemporaryDirectory() as folder:
        return validation_html(sample(Path(folder)))


def grid_page() -> str:
    """Nine runs of a grid, one of them failed."""
    done: list[dict[str, Any]] = [
        {
            "run": f"slots={slots}-rate={rate}", "max_loras": slots, "rate": rate, "stage": "done", "reason": "",
            "total_throughput": 900.0 + slots * rate, "ttft_mean_ms": 2000.0 / slots, "tpot_mean_ms": 15.0,
        }
        for slots in (8, 16, 32)
        for rate in (0.1, 0.2, 0.4)
    ]  # fmt: skip
    done[3] |= {"stage": "failed", "reason": "the server did not answer <within> 600 s"}
    return grid_html(RunTable("slots", ("max_loras", "rate"), tuple(done[0]), tuple(done)))


PAGES: dict[str, Callable[[], str]] = {
    "served": lambda: plan_report(served()),
    "overloaded": lambda: plan_report(overloaded()),
    "impossible": lambda: plan_report(impossible()),
    "runs": lambda: run_report({"the server": measured(), "the twin": simulated()}),
    "validation": validation_page,
    "grid": grid_page,
    "fleet": lambda: fleet_page(planned()),
    "schedule": lambda: schedule_page(scheduled()),
    "compared": lambda: comparison_page(compare_plans({"one": served(), "another": overloaded()})),
}
MORE = ("validation", "grid", "fleet", "schedule", "compared")
"""Pages whose tables and plots are those of the others."""
WIDTHS = (400, 800, 1200)
FIGURE = re.compile(r"-?[0-9.]+(e[-+]?[0-9]+)?")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module", params=[pytest.param(name, marks=[slow] if name in MORE else []) for name in PAGES])
def page(request: pytest.FixtureRequest, browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each page as a file; made only where there is a browser."""
    file: Path = tmp_path_factory.mktemp("pages") / f"{request.param}.html"
    file.write_text(PAGES[request.param]())
    return file


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window_and_the_browser_does_not_complain(
    browser: Any, page: Path, width: int
) -> None:
    with opened(browser, page, width) as shown:
        assert shown.overflow() <= 0
        assert shown.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1200, "light"), (1200, "dark")])
def test_axe_finds_nothing_serious(browser: Any, page: Path, width: int, scheme: str) -> None:
    with opened(browser, page, width, color_scheme=scheme) as shown:
        assert shown.barriers() == []


def test_without_scripts_it_says_the_same(browser: Any, page: Path) -> None:
    with opened(browser, page) as shown, opened(browser, page, java_script_enabled=False) as plain:
        tables = [text for text in shown.page.locator("table:visible").all_inner_texts() if text]
        assert tables
        assert plain.page.locator("table:visible").all_inner_texts() == tables
        assert plain.page.locator("h1").inner_text() == shown.page.locator("h1").inner_text()


def test_it_prints(browser: Any, page: Path) -> None:
    """On A4 (190 mm between the margins) nothing lies beyond the paper."""
    with opened(browser, page, 718) as shown:
        shown.page.emulate_media(media="print")
        assert shown.overflow() <= 0
        assert shown.page.pdf(format="A4").startswith(b"%PDF")


@pytest.fixture(scope="module")
def plan_file(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a plan that serves all adapters."""
    file: Path = tmp_path_factory.mktemp("plan") / "plan.html"
    file.write_text(PAGES["served"]())
    return file


CUT = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length"


def test_no_column_is_cut_and_where_the_window_is_narrow_it_says_that_it_scrolls(browser: Any, page: Path) -> None:
    with opened(browser, page, 1200) as wide, opened(browser, page, 400) as narrow:
        assert wide.page.evaluate(CUT) == 0
        assert narrow.page.evaluate(CUT) > 0
        assert narrow.page.evaluate(
            "[...document.querySelectorAll('.table .scroll')].filter(box => box.scrollWidth > box.clientWidth)"
            ".every(box => getComputedStyle(box.closest('.table').querySelector('.hint')).display !== 'none')"
        )
        assert not wide.page.locator(".hint:visible").count()


def numbers(table: Any, column: int) -> list[float]:
    """What a column is sorted by, of the rows that are shown."""
    return [float(row.locator("th, td").nth(column).get_attribute("data-sort")) for row in rows(table)]


def rows(table: Any) -> list[Any]:
    """The rows that are shown."""
    return list(table.locator("tbody tr:visible").all())


def test_a_click_or_a_key_sorts(browser: Any, plan_file: Path) -> None:
    with opened(browser, plan_file) as shown:
        table = shown.page.get_by_role("region", name="Every configuration").locator("table")
        before = numbers(table, 9)
        head = table.locator("thead th").nth(9)  # end to end
        head.click()
        shown.page.wait_for_timeout(100)
        assert numbers(table, 9) == sorted(before, reverse=True) != before
        head.press("Enter")
        shown.page.wait_for_timeout(100)
        assert numbers(table, 9) == sorted(before)
        assert head.get_attribute("aria-sort") == "ascending"


def order(table: Any, column: int) -> list[str]:
    """What a column is sorted by, as it stands; what is unknown is left out."""
    cells = (row.locator("th, td").nth(column).get_attribute("data-sort") for row in rows(table))
    return [cell for cell in cells if cell]


def in_order(values: list[str]) -> list[str]:
    """The same from the least on: figures before words."""
    return sorted(values, key=lambda value: (float(value), "") if FIGURE.fullmatch(value) else (inf, value))


@slow
@pytest.mark.parametrize("name", ["validation", "grid"])
def test_tables_of_other_pages_are_sorted_and_searched(browser: Any, name: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(PAGES[name]())
    with opened(browser, tmp_path / "page.html") as shown:
        tables, seen = shown.page.locator("table.sortable").all(), 0
        for table in tables:
            for column in range(table.locator("thead th").count()):
                table.locator("thead th").nth(column).click()
                shown.page.wait_for_timeout(100)
                values = order(table, column)
                seen += len(set(values)) > 1
                assert values in (in_order(values), in_order(values)[::-1])
        assert seen
        for box in shown.page.locator("input[type=search]:visible").all():
            box.fill("no such row")
            assert shown.page.get_by_text("0 of ").first.is_visible()
            box.fill("")
        assert shown.complaints == []


def test_a_customer_is_found(browser: Any, plan_file: Path) -> None:
    with opened(browser, plan_file) as shown:
        table = shown.page.get_by_role("region", name="Every adapter").locator("table")
        assert len(rows(table)) == 24
        shown.page.get_by_label("Find customer").fill("TENANT-07")
        assert [row.locator("th").inner_text() for row in rows(table)] == ["tenant-07"]
        assert shown.page.get_by_text("1 of 24").is_visible()
        shown.page.get_by_label("Find customer").fill("")
        assert len(rows(table)) == 24


def test_pointing_at_a_plot_says_its_values(browser: Any, plan_file: Path) -> None:
    with opened(browser, plan_file) as shown:
        tip = shown.page.locator(".tip")
        assert not tip.is_visible()
        shown.page.locator("svg[aria-label*='throughput against'] circle.spot").first.hover()
        assert "8 slots, max_num_seqs" in tip.inner_text()
        shown.page.locator("svg[aria-label*='over the window'] rect.spot").nth(10).hover()
        assert "running: " in tip.inner_text()
        shown.page.locator("h1").hover()
        assert not tip.is_visible()


def test_without_scripts_plots_still_have_their_values_and_no_box_that_does_nothing(
    browser: Any, plan_file: Path
) -> None:
    with opened(browser, plan_file, java_script_enabled=False) as plain:
        assert plain.page.locator("circle.spot title").first.text_content()
        assert not plain.page.locator("input:visible").count()


def test_the_csv_comes_without_a_server(browser: Any, plan_file: Path) -> None:
    with opened(browser, plan_file) as shown:
        with shown.page.expect_download() as download:
            shown.page.locator("a.csv").first.click()
        assert download.value.suggested_filename == "alternatives.csv"
        assert download.value.path().read_text().startswith("max_loras,max_num_seqs,verdict,")
