"""What is cited is there: sections of docs/engine.md, papers, pages, links and their anchors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.markdown import ROOT, anchors, links, pages

NUMBER = r"\d+\.\d+"
CITED = re.compile(rf"engine\.md#?\s+({NUMBER}(?:(?:,| to| and|, and)\s+{NUMBER})*)")
ARXIV = re.compile(r"arXiv[:\s]*\[?(\d{4}\.\d{4,5})")
PAGE = re.compile(r"(?<![\w/.-])((?:docs/)?[\w/-]*\w\.md)(?:#([\w-]+))?")


def texts() -> dict[Path, str]:
    """Source, tests and pages."""
    files = [*ROOT.glob("src/**/*.py"), *ROOT.glob("src/**/*.yaml"), *ROOT.glob("tests/**/*.py"), *pages()]
    return {path: path.read_text(encoding="utf-8") for path in files if path.name != Path(__file__).name}


def sections(text: str) -> set[str]:
    """The numbers of a page's headings."""
    return set(re.findall(rf"^#+ ({NUMBER}|\d+)\s", text, re.MULTILINE))


def cited_sections(text: str) -> set[str]:
    """The sections of engine.md that a text cites; "1.3 to 1.6" cites what lies between, too."""
    found: set[str] = set()
    for listed in CITED.findall(text):
        found.update(re.findall(NUMBER, listed))
        for first, last in re.findall(rf"({NUMBER}) to ({NUMBER})", listed):
            chapter, begin = map(int, first.split("."))
            end = int(last.split(".")[1]) if last.startswith(f"{chapter}.") else begin
            found.update(f"{chapter}.{number}" for number in range(begin, end + 1))
    return found


def test_every_section_of_the_engines_facts_that_is_cited_is_there() -> None:
    there = sections((ROOT / "docs/engine.md").read_text(encoding="utf-8"))
    assert len(there) > 15
    cited = {path: cited_sections(text) for path, text in texts().items()}
    assert sum(map(bool, cited.values())) > 15, "the citations are not found any more"
    assert not {str(path): missing for path, numbers in cited.items() if (missing := numbers - there)}


def test_source_cites_the_engines_facts_by_section() -> None:
    """A fact without a number sends the reader through the whole page."""
    bare = re.compile(rf"engine\.md(?!#?\s+{NUMBER})")
    source = {path: text for path, text in texts().items() if path.is_relative_to(ROOT / "src")}
    assert not [str(path) for path, text in source.items() if bare.search(re.sub(r"\n\s*", " ", text))]


def test_numbers_of_sections_are_unique() -> None:
    numbers = re.findall(rf"^#+ ({NUMBER}) ", (ROOT / "docs/engine.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(numbers) == len(set(numbers))
    assert numbers == sorted(numbers, key=lambda number: tuple(map(int, number.split("."))))


def test_every_paper_that_is_cited_has_its_place() -> None:
    listed = set(ARXIV.findall((ROOT / "docs/sources.md").read_text(encoding="utf-8")))
    cited = {number for text in texts().values() for number in ARXIV.findall(text)}
    assert cited - listed == set()
    assert len(listed) >= 3


def named_pages(text: str) -> set[tuple[str, str]]:
    """Pages that source or a page names outside of links, as "docs/reference/profiles.md#intervals"."""
    return {(name, anchor) for name, anchor in PAGE.findall(text) if name.startswith("docs/") or name in TOP}


TOP = {path.name for path in ROOT.glob("*.md")}


def test_pages_that_the_source_names_are_there() -> None:
    named = {(path, page, anchor) for path, text in texts().items() for page, anchor in named_pages(text)}
    assert len(named) > 5
    missing = [f"{path.relative_to(ROOT)}: {page}#{anchor}" for path, page, anchor in named if not there(page, anchor)]
    assert not missing


def there(page: str, anchor: str) -> bool:
    path = ROOT / page
    return path.is_file() and (not anchor or anchor in anchors(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = [link for link in links(text) if not link.startswith(("http://", "https://")) and not leads(page, link)]
    assert not broken


def leads(page: Path, link: str) -> bool:
    """Whether a relative link has a file behind it, and its anchor a heading."""
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.is_relative_to(ROOT) or not target.exists():
        return False
    return not anchor or (target.suffix == ".md" and anchor in anchors(target.read_text(encoding="utf-8")))


def test_anchors_are_those_of_github() -> None:
    page = "# A `B`: c, d\n```\n# no\n```\n## [E](f.md) & G\n## Two\n## Two\n"
    assert anchors(page) == {"a-b-c-d", "e--g", "two", "two-1"}


def test_citations_are_read() -> None:
    assert cited_sections("engine.md 1.4 and 2.2; engine.md 1.3 to 1.5, 2.1") == {"1.3", "1.4", "1.5", "2.1", "2.2"}
    assert cited_sections("(the table: engine.md 2.7 and 3.1)") == {"2.7", "3.1"}
