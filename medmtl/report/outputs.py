"""The numeric columns of a predictions folder, and where their values come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medmtl.evaluation import PredictedTask


@dataclass(frozen=True)
class ValueColumn:
    """A numeric column of predictions.csv: `<task>.<name> [unit]`."""

    header: str
    task: str
    name: str
    unit: str
    from_masks: bool

    @property
    def source(self) -> str:
        """Where the number comes from, in words."""
        return f"{self.task} ({'from masks' if self.from_masks else 'head'})"


def value_columns(headers: Iterable[str], tasks: Mapping[str, PredictedTask]) -> Sequence[ValueColumn]:
    """The numeric value columns, regression heads before values that come from masks."""
    from medmtl.evaluation.header import parse_header

    found = []
    for column in headers:
        header = parse_header(column)
        task = tasks.get(header.task) if header is not None else None
        if header is None or task is None or task.kind == "classification":
            continue
        from_masks = task.kind != "regression"
        found.append(ValueColumn(column, header.task, header.name, header.unit, from_masks))
    return sorted(found, key=lambda column: column.from_masks)
