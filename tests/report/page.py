"""A page as its parts, read with the standard library."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, the text, and whether everything that opens is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.unclosed: list[str] = []
        self.badly_closed: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.unclosed.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.unclosed or self.unclosed.pop() != tag:
            self.badly_closed.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """All text, spaces evened out."""
        return " ".join(" ".join(self.words).split())

    def attributes(self, name: str) -> list[str]:
        """All values of one attribute."""
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]


def assert_self_contained(text: str, nasty: str) -> Page:
    """It is well-formed, needs nothing else, and shows the name `nasty` as a name; its elements."""
    page = Page(text)
    assert text.lstrip().startswith("<!doctype html>")
    assert page.badly_closed == [] and page.unclosed == []
    names = [tag for tag, _ in page.tags]
    assert not {*names} & {"link", "img", "iframe", "object", "embed"}
    assert names.count("script") == 1 and page.attributes("src") == []
    links = (*page.attributes("href"), *page.attributes("xlink:href"))
    assert all(link.startswith(("#", "data:text/csv")) for link in links)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert "<script>alert" not in text and nasty in page.text
    return page
