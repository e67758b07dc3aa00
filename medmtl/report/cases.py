"""The table of cases, worst first: what the masks scored, what was said, what is true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medmtl.report.agreement import paired_values
from medmtl.report.blocks import BLANK, Cell, Section, Table
from medmtl.report.classification import paired_classes
from medmtl.report.material import Material
from medmtl.report.numbers import as_float, shown
from medmtl.report.outputs import value_columns
from medmtl.report.ranking import Ranking, metric_of, per_case
from medmtl.report.summary import name_of

if TYPE_CHECKING:
    from pandas import DataFrame

_SCORES = ("dice", "hd95", "surface_dice")
_SCORE_COLUMNS = 12


@dataclass(frozen=True)
class _Column:
    """A column of the table: its head and its cell for every case that has one."""

    head: str
    cells: Mapping[str, Cell]


def cases_section(material: Material, ranking: Ranking) -> Section:
    """A row per evaluated case."""
    section = Section("cases", "Cases, worst first")
    if not ranking.order:
        section.missing = "No evaluated or predicted case belongs to this folder."
        return section
    columns = [*_score_columns(material), *_class_columns(material), *_value_columns(material)]
    rows = []
    for place, case_id in enumerate(ranking.order, start=1):
        cells = [Cell(str(place), sort=float(place)), Cell(case_id, header=True)]
        if ranking.meaning:
            score = ranking.score.get(case_id)
            cells.append(Cell(shown(score), sort=score))
        rows.append([*cells, *(column.cells.get(case_id, Cell(BLANK)) for column in columns)])
    heads = [
        "rank",
        "case",
        *([ranking.meaning] if ranking.meaning else []),
        *(column.head for column in columns),
    ]
    order = (
        f"by {ranking.meaning}, worst first"
        if ranking.meaning
        else "in the order of the file, as nothing ranks them"
    )
    reading = (
        "Click a column's head to sort by it. Values are predicted, with the difference from the truth "
        "below where it is known; "
        f"bold with a mark is a wrong class or a difference outside the limits of agreement. {BLANK} means "
        "not labelled or not predicted."
    )
    section.blocks.append(Table(f"Cases {order}", heads, rows, reading=reading, sortable=True, compact=True))
    return section


def _score_columns(material: Material) -> list[_Column]:
    if material.cases is None:
        return []
    table = per_case(material.cases)
    names = [
        name
        for metric in _SCORES
        for name in table.columns
        if metric_of(name) == metric and name.count(".") > 1 and table[name].notna().any()
    ]
    several = len({name.split(".")[0] for name in names}) > 1
    return [_score_column(table, name, several) for name in names[:_SCORE_COLUMNS]]


def _score_column(table: DataFrame, name: str, with_task: bool) -> _Column:
    task, metric, *structure = name.split(".")
    unit = "mm" if metric.startswith("hd") else ""
    head = " ".join([*([task] if with_task else []), name_of(metric), *structure]) + (
        f" [{unit}]" if unit else ""
    )
    cells = {
        str(case): Cell(shown(value, unit), sort=as_float(value))
        for case, value in table[name].items()
        if np.isfinite(as_float(value))
    }
    return _Column(head, cells)


def _class_columns(material: Material) -> list[_Column]:
    columns = []
    for output in material.outputs.values():
        header = f"{output.name}.class"
        if (
            output.kind != "classification"
            or material.predictions is None
            or header not in material.predictions.columns
        ):
            continue
        pairs = paired_classes(material, output)
        truth = {} if pairs is None else {str(case): str(value) for case, value in pairs["truth"].items()}
        table = material.by_case
        cells = {}
        for case, predicted in table[header].dropna().items():
            probability = table.get(f"{output.name}.probability.{predicted}")
            note = f"p = {as_float(probability[case]):.2f}" if probability is not None else ""
            wrong = str(case) in truth and truth[str(case)] != str(predicted)
            note = f"{note}, true {truth[str(case)]}".lstrip(", ") if wrong else note
            cells[str(case)] = Cell(str(predicted), note=note, flag=wrong)
        columns.append(_Column(output.name, cells))
    return columns


def _value_columns(material: Material) -> list[_Column]:
    if material.predictions is None:
        return []
    from medmtl.metrics import bland_altman

    columns = []
    table = material.by_case
    for column in value_columns([str(name) for name in table.columns], material.outputs):
        pairs = paired_values(material, column)
        truth = {} if pairs is None else dict(zip(pairs.case_ids, pairs.truth, strict=True))
        limits = None if pairs is None else bland_altman(pairs.predicted, pairs.truth)
        cells = {}
        for case, value in table[column.header].items():
            number = as_float(value)
            if not np.isfinite(number):
                continue
            difference = number - truth[str(case)] if str(case) in truth else np.nan
            outside = limits is not None and bool(difference < limits.lower or difference > limits.upper)
            sign = "+" if difference > 0 else ""
            note = f"{sign}{shown(difference, column.unit)}" if np.isfinite(difference) else ""
            cells[str(case)] = Cell(shown(number, column.unit), note=note, sort=number, flag=outside)
        unit = f" [{column.unit}]" if column.unit else ""
        columns.append(_Column(f"{column.task} {column.name}{unit}", cells))
    return columns


def refused_cases(material: Material) -> Sequence[Sequence[Cell]]:
    """Rows of what was not predicted or not scored: case, status, code, message."""
    names = ("case_id", "status", "code", "message")
    found = material.evaluation.get("missing")
    if isinstance(found, list):
        entries = [entry for entry in found if isinstance(entry, Mapping)]
    elif material.predictions is not None and "status" in material.predictions.columns:
        table = material.predictions
        entries = table[table["status"].isin(("refused", "failed"))].to_dict("records")
    else:
        entries = []
    return [[Cell(_text(entry.get(name)), header=name == "case_id") for name in names] for entry in entries]


def _text(value: object) -> str:
    return value if isinstance(value, str) and value else BLANK
