"""What a column of a table means, told from its cells: a value, a category, or nothing that can be used."""

from __future__ import annotations

import re
from dataclasses import dataclass

from medmtl.data.cells import parse_number
from medmtl.data.columns import Column
from medmtl.data.formats.tables import Table, is_blank

MAX_CLASSES = 20
"""More different texts than this are no classes."""

_NAMED = re.compile(
    r"((patient|subject|participant|first|last|family|given|middle|full|maiden)_?)?name|surname|"
    r"(patient|hospital)_?(id|number)"
)
_WORDS = frozenset(
    {"accession", "address", "birth", "birthdate", "birthday", "dob", "email", "mrn", "phone", "ssn"}
)
_UNIT = re.compile(r"(?P<name>.*?)\s*[\[(](?P<unit>[^\])]*)[\])]")


@dataclass(frozen=True)
class Unusable:
    """Why a column is neither a value nor a category.

    Attributes:
        reason: the end of the sentence "the column ...".
        row: the row of the cell that says so, None where it is the column as a whole.
    """

    reason: str
    row: int | None = None


def split_unit(header: str) -> tuple[str, str]:
    """``height [cm]`` or ``height (cm)`` -> name and unit, which is blank where there is none."""
    match = _UNIT.fullmatch(header)
    return (match["name"].strip(), match["unit"].strip()) if match is not None else (header, "")


def is_personal(name: str) -> bool:
    """Whether a column's name speaks of personal data, which no dataset may hold."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    plain = re.sub(r"[^a-z]+", "_", plain.lower()).strip("_")
    words = set(plain.split("_"))
    if _NAMED.fullmatch(plain):
        return True
    return bool(words & _WORDS) and "weight" not in words


def infer(table: Table, header: str) -> Column | Unusable:
    """A value where all cells are numbers, a category where they are a few texts.

    Args:
        table: the table.
        header: the column, perhaps with a unit.

    Returns:
        the column, named without its unit, or why it cannot be used.
    """
    name, unit = split_unit(header)
    cells = [(row.number, row.cells[header]) for row in table.rows if not is_blank(row.cells[header])]
    if is_personal(name):
        return Unusable("has a name that speaks of personal data")
    if not cells:
        return Unusable("is blank in every row")
    texts = [(number, text) for number, text in cells if not _is_number(text)]
    if not texts:
        return Column(name, "value", unit=unit)
    if 2 * len(texts) < len(cells):
        number, text = texts[0]
        return Unusable(f"holds numbers, but {text!r} here; correct it or leave it blank", number)
    classes = list(dict.fromkeys(text for _, text in cells))
    if len(classes) > MAX_CLASSES:
        return Unusable(f"holds {len(classes)} different texts, too many for classes")
    return Column(name, "category", classes=tuple(sorted(classes)))


def _is_number(text: str) -> bool:
    try:
        parse_number(text)
    except ValueError:
        return False
    return True
