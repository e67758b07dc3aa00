"""Dense regression: a predicted value per voxel against a true one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medmtl.data import Case, Dataset
from medmtl.evaluation.read import Predictions
from medmtl.evaluation.record import CaseRecord, Entry, Missing, mean_entry
from medmtl.evaluation.tasks import PredictedTask
from medmtl.evaluation.volumes import read_prediction, read_truth
from medmtl.metrics import mean_absolute_error, pearson
from medmtl.types import CaseError


def score_map(
    task: PredictedTask, case: Case, dataset: Dataset, predictions: Predictions, record: CaseRecord
) -> None:
    """Adds mean absolute error and correlation over the labelled voxels of one case to its record."""
    column = dataset.columns.get(task.target)
    if column is None or column.kind != "map" or task.target not in case.files:
        return
    try:
        path = predictions.root / case.case_id / task.file
        predicted = read_prediction(path, dataset.geometry[case.case_id])
    except CaseError as error:
        record.missing.append(Missing(case.case_id, task.name, "error", error.code, str(error)))
        return
    truth = read_truth(case, task.target)
    assert truth is not None
    known = np.isfinite(truth)
    values, true = predicted[known].astype(np.float64), truth[known].astype(np.float64)
    if not np.isfinite(values).all():
        record.notes.append(f"{task.name}: some labelled voxels have no finite prediction and are left out")
        values = np.where(np.isfinite(values), values, math.nan)
    record.row[f"{task.name}.mae"] = float(mean_absolute_error(values, true))
    record.row[f"{task.name}.r"] = float(pearson(values, true))


def summarise_map(
    task: PredictedTask, dataset: Dataset, records: Sequence[CaseRecord], seed: int
) -> dict[str, Entry]:
    """Mean over cases of the error (in the map's unit) and of the correlation within a case."""
    column = dataset.columns.get(task.target)
    unit = column.unit if column is not None else ""

    def of_cases(name: str) -> list[float]:
        return [record.row.get(f"{task.name}.{name}", math.nan) for record in records]

    return {"mae": mean_entry(of_cases("mae"), unit, seed), "r": mean_entry(of_cases("r"), "", seed)}
