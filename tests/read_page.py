"""Reads a page of HTML as its text says it: tags, what they refer to, and the words."""

from __future__ import annotations

from html.parser import HTMLParser


class ReadPage(HTMLParser):
    """A page's tags, what they refer to, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [(name, value) for name, value in attrs if name in {"src", "href", "data", "action"}]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def check_asks_nobody(text: str) -> ReadPage:
    """That a page loads nothing, runs nothing, and follows its reader's theme; links to other pages are no requests."""
    page = ReadPage(text)
    assert [value for name, value in page.references if name != "href"] == []
    assert "default-src 'none'" in text
    assert not {"script", "img", "link", "iframe", "object"} & set(page.tags)
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text
    return page
