"""A real browser for the pages: Debian's Chromium, driven by Playwright; tests skip where either is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@dataclass
class Opened:
    """A page in the browser, and what the browser had to say of it."""

    page: Any
    complaints: list[str] = field(default_factory=list)

    def overflow(self) -> int:
        """Pixels that can be scrolled to the right."""
        root = "document.documentElement"
        return int(self.page.evaluate(f"{root}.scrollWidth - {root}.clientWidth"))

    def barriers(self) -> list[str]:
        """What axe calls serious or critical: who meets it cannot read or use a part of the page."""
        self.page.evaluate(_axe())
        found = self.page.evaluate("axe.run()")["violations"]
        return [
            f"{each['id']}: {node['html'][:200]}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]


@cache
def _axe() -> str:
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    return (Path(axe.__file__).parent / "axe.min.js").read_text()


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser, without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, file: Path, width: int = 1200, **context: Any) -> Iterator[Opened]:
    """The file in a window of a width, from which no network can be reached."""
    window = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **context)
    try:
        shown = Opened(window.new_page())
        shown.page.on("console", lambda message: shown.complaints.append(message.text))
        shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
        shown.page.on("requestfailed", lambda request: shown.complaints.append(request.url))
        shown.page.goto(file.as_uri())
        yield shown
    finally:
        window.close()
