"""What a page is made of; ``page.html.j2`` lays each out by its `kind`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

_UNITS = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_NUMBER = re.compile(r"\s*([+-]?(?:\d[\d,]*\.?\d*(?:e[+-]?\d+)?|inf\b))\s*(GB|MB|kB|B)?", re.I)


@dataclass(frozen=True)
class Cell:
    """One cell: its text, the number to sort by if it is one, and what it means.

    Attributes:
        text: as shown.
        number: to sort by, or None for words.
        mark: ``good``, ``bad``, ``open``, or nothing.
    """

    text: str
    number: float | None = None
    mark: str = ""

    @classmethod
    def of(cls, text: str) -> Cell:
        """Return the cell of a text, which sorts by its first number where it begins with one."""
        found = _NUMBER.match(text)
        if found is None:
            return cls(text)
        return cls(text, float(found[1].replace(",", "")) * _UNITS.get(found[2] or "B", 1.0))


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        caption: above it.
        header: one text a column.
        rows: cells, as many as the header has texts.
        numeric: by column, whether to align it to the right.
        link: of the file with all of it, or nothing.
    """

    kind: ClassVar[str] = "table"
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    link: str = ""

    @property
    def numeric(self) -> list[bool]:
        """By column, whether most of its cells are numbers."""
        columns = zip(*self.rows, strict=True)
        found = [sum(c.number is not None for c in column) * 2 > len(column) for column in columns]
        return found or [False] * len(self.header)


@dataclass(frozen=True)
class Sentences:
    """Sentences, one an entry; `tone` is ``verdict``, ``note`` or ``text``."""

    kind: ClassVar[str] = "sentences"
    lines: Sequence[str]
    tone: str = "note"


@dataclass(frozen=True)
class Facts:
    """Names with what they stand for, in columns."""

    kind: ClassVar[str] = "facts"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Code:
    """A command to copy."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Picture:
    """A picture within the page.

    Attributes:
        source: as a data URI.
        alt: what is to be seen.
        caption: below it.
        width: in pixels.
        height: in pixels.
    """

    kind: ClassVar[str] = "picture"
    source: str
    alt: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class Link:
    """A file beside the page."""

    kind: ClassVar[str] = "link"
    target: str
    text: str


@dataclass
class Section:
    """A heading with blocks below it; without blocks it is left out.

    Attributes:
        title: the heading.
        blocks: of any kind here, charts of `charts` too.
        id: of the heading, unique on the page.
    """

    title: str
    blocks: list[object] = field(default_factory=list)
    id: str = ""


def numbered(sections: Iterable[Section], prefix: str) -> list[Section]:
    """Return the sections that hold something, each with an id of its own."""
    kept = [section for section in sections if section.blocks]
    for number, section in enumerate(kept, 1):
        section.id = f"{prefix}-{number}"
    return kept
