"""Reading what was rendered, as a browser would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest

VOID = {"br", "hr", "img", "meta", "input", "link"}


@dataclass
class Page(HTMLParser):
    """Tags with their attributes, rows of cells, and all text but the styles."""

    source: str
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str | None]] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    words: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self.feed(self.source)
        self.close()
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.words += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data.strip()

    def facts(self) -> dict[str, str]:
        """Rows of two cells, as label and value."""
        return {row[0]: row[1] for row in self.rows if len(row) == 2}


@pytest.fixture
def read() -> Callable[[str], Page]:
    """Parse HTML; fails when a tag is left open."""
    return Page
