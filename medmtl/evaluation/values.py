"""Values per case, from a regression head or from predicted masks, and how they agree with the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medmtl.data import Dataset
from medmtl.evaluation.header import Header
from medmtl.evaluation.read import TABLE_FILE, Predictions
from medmtl.evaluation.record import CaseRecord, Entry, Missing, bootstrapped, entry
from medmtl.evaluation.tasks import MASK_KINDS, PredictedTask
from medmtl.metrics import bland_altman, icc, mean_absolute_error, pearson
from medmtl.types import ConfigError


@dataclass(frozen=True)
class ValueColumn:
    """One value of one task.

    Attributes:
        task: the task.
        name: dataset column that it is held against.
        unit: of both.
        header: its column in ``predictions.csv``, None where it is measured on the predicted masks.
        has_truth: the dataset has such a column.
    """

    task: str
    name: str
    unit: str
    header: Header | None
    has_truth: bool

    def column(self, what: str = "") -> str:
        """Column of ``cases.csv``: ``<task>.<name> [unit]``, ``<task>.truth.<name> [unit]``, ..."""
        name = f"{self.task}.{what}.{self.name}" if what else f"{self.task}.{self.name}"
        return f"{name} [{self.unit}]" if self.unit else name


def value_columns(task: PredictedTask, dataset: Dataset, predictions: Predictions) -> tuple[ValueColumn, ...]:
    """The values that a task predicts, and those that follow from its masks.

    Raises:
        ConfigError: prediction and dataset give the same value in two units.
    """
    if task.kind == "classification":
        return ()
    names = list(task.values)
    if task.kind in MASK_KINDS:
        names += [name for name in task.measurable(dataset.columns) if name not in names]
    return tuple(_value_column(task, name, dataset, predictions) for name in names)


def fill_values(
    columns: Sequence[ValueColumn], dataset: Dataset, predictions: Predictions, record: CaseRecord, ok: bool
) -> None:
    """Adds predicted value, truth and error (prediction - truth) of one case to its record."""
    blank: list[str] = []
    for column in columns:
        predicted = record.measured.get((column.task, column.name), math.nan)
        if column.header is not None and ok:
            predicted = predictions.number(record.case_id, column.header)
        truth = float(dataset.targets.at[record.case_id, column.name]) if column.has_truth else math.nan
        record.row[column.column()] = predicted
        record.row[column.column("truth")] = truth
        record.row[column.column("error")] = predicted - truth
        if math.isnan(predicted) and not math.isnan(truth):
            blank.append(column.name)
    if ok and blank and not any(missing.task == columns[0].task for missing in record.missing):
        message = f"no predicted value of {', '.join(blank)}, which the dataset has"
        record.missing.append(Missing(record.case_id, columns[0].task, "error", "", message))


def summarise_values(
    columns: Sequence[ValueColumn], records: Sequence[CaseRecord], seed: int
) -> dict[str, Entry]:
    """Agreement of every value over the cases that have both sides.

    Intervals: bootstrap over cases for ``mae``; Bland and Altman 1999 for bias and limits; chi-square for
    ``sd``; Fisher's z for ``r``; F-based for ``icc`` (ICC(2,1)).
    """
    entries: dict[str, Entry] = {}
    for column in columns:
        pairs = np.array(
            [(record.row[column.column()], record.row[column.column("truth")]) for record in records],
            dtype=np.float64,
        ).reshape(-1, 2)
        method, reference = pairs[~np.isnan(pairs).any(axis=1)].T
        agreement = bland_altman(method, reference)
        n, unit, name = agreement.n, column.unit, column.name
        correlation, same = pearson(method, reference), icc(method, reference)
        entries |= {
            f"mae.{name}": bootstrapped(mean_absolute_error, method, reference, unit=unit, seed=seed, n=n),
            f"bias.{name}": entry(agreement.bias, agreement.bias_ci, n, unit),
            f"sd.{name}": entry(agreement.sd, agreement.sd_ci, n, unit),
            f"loa_low.{name}": entry(agreement.lower, agreement.lower_ci, n, unit),
            f"loa_high.{name}": entry(agreement.upper, agreement.upper_ci, n, unit),
            f"r.{name}": entry(correlation, correlation.ci, n),
            f"icc.{name}": entry(same, same.ci, n),
        }
    return entries


def _value_column(task: PredictedTask, name: str, dataset: Dataset, predictions: Predictions) -> ValueColumn:
    header = predictions.header_of(task.name, name)
    column = dataset.columns.get(name)
    given = task.values.get(name, "")
    if column is None or column.kind != "value":
        return ValueColumn(task.name, name, given, header, has_truth=False)
    if given and column.unit and given != column.unit:
        where = f"row 1, column {header.column!r}" if header is not None else f"task {task.name}, {name}"
        raise ConfigError(
            f"{predictions.root / TABLE_FILE}, {where}: the prediction is in {given!r} and the dataset's "
            f"{name} in {column.unit!r}; convert the column and write the unit in its header"
        )
    return ValueColumn(task.name, name, column.unit or given, header, has_truth=True)
