"""What a report is made of: sections that hold figures, tables, key numbers and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from markupsafe import Markup

BLANK = "–"
"""What a table shows where there is no value."""


@dataclass(frozen=True)
class Cell:
    """One table cell.

    Attributes:
        text: what is shown.
        note: a second, smaller line.
        sort: number to sort by instead of the text; None sorts last.
        shade: background strength 0..1, for a matrix shown as a table.
        header: the cell names its row.
        flag: the value deserves a look (shown bold with a mark, never by colour alone).
        span: columns that it takes.
        href: where it leads: a relative path that was made safe for an address.
    """

    text: str
    note: str = ""
    sort: float | None = None
    shade: float | None = None
    header: bool = False
    flag: bool = False
    span: int = 1
    href: str = ""


@dataclass(frozen=True)
class Table:
    """A table with a caption; `words`: cells hold sentences, set flush left."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    reading: str = ""
    sortable: bool = False
    compact: bool = False
    words: bool = False


@dataclass(frozen=True)
class Figure:
    """A picture that is already safe markup (inline SVG or an image with a data address).

    Attributes:
        markup: the picture, with its text alternative inside.
        caption: what is shown.
        reading: how to read it, in a sentence or two.
    """

    kind: ClassVar[str] = "figure"
    markup: Markup
    caption: str
    reading: str = ""


@dataclass(frozen=True)
class Prose:
    """A paragraph; `warning` sets it off from the text."""

    kind: ClassVar[str] = "prose"
    text: str
    warning: bool = False


@dataclass(frozen=True)
class KeyNumber:
    """A headline number: `label`, `value` with its unit, and what is behind it."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class KeyNumbers:
    """A row of headline numbers."""

    kind: ClassVar[str] = "numbers"
    numbers: Sequence[KeyNumber]


Block = Table | Figure | Prose | KeyNumbers


@dataclass
class Section:
    """A part of the report; `missing` says in one sentence why there is nothing to show."""

    slug: str
    title: str
    blocks: list[Block] = field(default_factory=list)
    missing: str = ""
