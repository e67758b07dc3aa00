"""What tables of predictions are made of: rows with their quantities, classes and flags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from medmtl.report.outputs import ValueColumn, value_columns

if TYPE_CHECKING:
    from pandas import DataFrame

    from medmtl.evaluation import PredictedTask

PAGE = "report.html"
FLAGS = "quality.flags"


@dataclass(frozen=True)
class Quantity:
    """One quantity, from masks, from a head, or from both.

    Attributes:
        name: such as ``LV_EF``.
        unit: or "".
        columns: of predictions.csv that hold it, heads before masks.
    """

    name: str
    unit: str
    columns: tuple[ValueColumn, ...]

    @property
    def label(self) -> str:
        """Name and unit."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name


def quantities(headers: Sequence[str], tasks: Mapping[str, PredictedTask]) -> Sequence[Quantity]:
    """All quantities of a table, each once."""
    found: dict[tuple[str, str], list[ValueColumn]] = {}
    for column in value_columns(headers, tasks):
        found.setdefault((column.name, column.unit), []).append(column)
    return [Quantity(name, unit, tuple(columns)) for (name, unit), columns in found.items()]


def class_columns(table: DataFrame, tasks: Mapping[str, PredictedTask]) -> Mapping[str, str]:
    """Column of the predicted class, by task."""
    named = {task.name: f"{task.name}.class" for task in tasks.values() if task.kind == "classification"}
    return {task: column for task, column in named.items() if column in table.columns}


def flags_of(value: object) -> tuple[str, ...]:
    """Flag codes in a cell, each once."""
    return tuple(dict.fromkeys(re.findall(r"[A-Za-z_]\w+", value))) if isinstance(value, str) else ()


def text_of(value: Any) -> str:
    """A cell as text, "" where it is blank."""
    return value if isinstance(value, str) else ""


def short(case_id: str) -> str:
    """A name that leaves room for others: the start and the end of a long UID."""
    return case_id if len(case_id) <= 26 else f"{case_id[:8]}…{case_id[-12:]}"


def page_of(case_id: str) -> str:
    """Address of a study's page from the cohort's."""
    return f"{quote(case_id)}/{PAGE}"
