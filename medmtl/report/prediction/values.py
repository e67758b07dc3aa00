"""The values of one study, beside what is usual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.report.blocks import BLANK, Cell, Table
from medmtl.report.numbers import as_float, shown
from medmtl.report.prediction.cells import Quantity, quantities
from medmtl.report.prediction.ranges import SOURCES, Reference, reference

if TYPE_CHECKING:
    from pandas import DataFrame

    from medmtl.evaluation import PredictedTask

LEAST = 10
"""Studies that a spread is worth telling of."""


@dataclass(frozen=True)
class Spread:
    """The middle nine tenths of a column over the cohort."""

    low: float
    median: float
    high: float
    count: int


def spreads_of(table: DataFrame, tasks: Mapping[str, PredictedTask]) -> Mapping[str, Spread]:
    """Spread of every numeric column that enough studies have."""
    import pandas as pd

    found = {}
    for quantity in quantities([str(name) for name in table.columns], tasks):
        for column in quantity.columns:
            values = pd.to_numeric(table[column.header], errors="coerce").to_numpy(float)
            values = values[np.isfinite(values)]
            if values.size >= LEAST:
                low, median, high = (float(value) for value in np.percentile(values, (5, 50, 95)))
                found[column.header] = Spread(low, median, high, int(values.size))
    return found


def class_tables(row: Mapping[str, Any], tasks: Mapping[str, PredictedTask]) -> list[Table]:
    """Probabilities of every class, most probable first."""
    tables = []
    for task in tasks.values():
        chances = {name: as_float(row.get(f"{task.name}.probability.{name}")) for name in task.classes}
        known = {name: chance for name, chance in chances.items() if chance == chance}
        if task.kind != "classification" or not known:
            continue
        rows = [
            [Cell(name, header=True), Cell(f"{chance:.3f}", shade=min(max(chance, 0.0), 1.0))]
            for name, chance in sorted(known.items(), key=lambda entry: -entry[1])
        ]
        tables.append(
            Table(f"{task.name}: {row.get(f'{task.name}.class', BLANK)}", ["class", "probability"], rows)
        )
    return tables


def values_table(
    row: Mapping[str, Any], tasks: Mapping[str, PredictedTask], spreads: Mapping[str, Spread], *, is_mr: bool
) -> list[Table]:
    """Every quantity: from masks, from a head, their difference, healthy adults, this cohort."""
    found = [
        quantity
        for quantity in quantities([str(name) for name in row], tasks)
        if any(
            as_float(row.get(column.header)) == as_float(row.get(column.header))
            for column in quantity.columns
        )
    ]
    if not found:
        return []
    known = {quantity.label: reference(quantity.name, quantity.unit) if is_mr else None for quantity in found}
    rows = [_row(row, quantity, known[quantity.label], spreads) for quantity in found]
    heads = [
        "quantity",
        "from masks",
        "from a head",
        "difference",
        "healthy men",
        "healthy women",
        "this cohort",
    ]
    sources = list(dict.fromkeys(entry.source for entry in known.values() if entry is not None))
    reading = (
        "Bold with a mark: outside of what healthy men and healthy women have (mean ± 2 SD in cine MRI of "
        "adults, whatever the age and body size). This cohort: 5th, 50th and 95th percentile. Sources: "
        + "; ".join(SOURCES[name] for name in sources)
        + "."
        if sources
        else "This cohort: 5th, 50th and 95th percentile of the studies with a result."
    )
    return [Table("Values", heads, rows, reading=reading)]


def _row(
    row: Mapping[str, Any], quantity: Quantity, known: Reference | None, spreads: Mapping[str, Spread]
) -> Sequence[Cell]:
    by_source = {column.from_masks: column for column in quantity.columns}
    values = {source: as_float(row.get(column.header)) for source, column in by_source.items()}
    masks, head = values.get(True, float("nan")), values.get(False, float("nan"))
    difference = head - masks
    sign = "+" if difference > 0 else ""
    column = by_source.get(True) or by_source[False]
    return [
        Cell(quantity.label, header=True),
        *(
            Cell(
                shown(value, quantity.unit),
                flag=known is not None and value == value and not known.holds(value),
            )
            for value in (masks, head)
        ),
        Cell(f"{sign}{shown(difference, quantity.unit)}" if difference == difference else BLANK),
        *_limits(known, quantity.unit),
        Cell(_spread(spreads.get(column.header), quantity.unit)),
    ]


def _limits(known: Reference | None, unit: str) -> list[Cell]:
    if known is None:
        return [Cell(BLANK), Cell(BLANK)]
    return [Cell(f"{low:.0f} to {high:.0f}") for low, high in known.limits()]


def _spread(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return BLANK
    return " / ".join(shown(value, unit) for value in (spread.low, spread.median, spread.high))
