"""The pages in a real Chromium: quiet, as wide as the window, for everybody, on paper, and without scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loratwin.report import plan_report, run_report
from tests.plan.small import impossible, overloaded, served
from tests.report.browser import chromium, opened
from tests.report.measured import measured, simulated

PAGES: dict[str, Callable[[], str]] = {
    "served": lambda: plan_report(served()),
    "overloaded": lambda: plan_report(overloaded()),
    "impossible": lambda: plan_report(impossible()),
    "runs": lambda: run_report({"the server": measured(), "the twin": simulated()}),
}
WIDTHS = (400, 800, 1200)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module", params=list(PAGES))
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


@pytest.mark.parametrize("width", (400, 1200))
def test_axe_finds_nothing_serious(browser: Any, page: Path, width: int) -> None:
    with opened(browser, page, width) as shown:
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
