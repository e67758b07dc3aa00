"""Column names of ``predictions.csv``.

They are ``<task>.<name> [unit]``, ``<task>.class`` and ``<task>.probability.<CLASS>``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PATTERN = re.compile(r"(?P<task>[^.]+)\.(?P<name>.+?)(?:\s*\[(?P<unit>[^\]]*)\])?")
_PROBABILITY = "probability."


@dataclass(frozen=True)
class Header:
    """An output column.

    Attributes:
        column: the whole name.
        task: the part before the first dot.
        name: what the task predicts there.
        unit: the unit in brackets, or "".
    """

    column: str
    task: str
    name: str
    unit: str

    @property
    def is_class(self) -> bool:
        """Whether the column holds the predicted class."""
        return self.name == "class"

    @property
    def probability_of(self) -> str:
        """The class whose probability the column holds, or ""."""
        return self.name.removeprefix(_PROBABILITY) if self.name.startswith(_PROBABILITY) else ""


def parse_header(column: str) -> Header | None:
    """The parts of an output column's name; None for the columns that describe the case."""
    match = _PATTERN.fullmatch(column)
    if match is None:
        return None
    return Header(column, match["task"], match["name"], match["unit"] or "")
