"""Classification: accuracy, balanced accuracy, macro one-versus-rest AUC and calibration over cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data import Dataset
from medmtl.evaluation.header import Header
from medmtl.evaluation.read import TABLE_FILE, Predictions
from medmtl.evaluation.record import CaseRecord, Entry, Missing, bootstrapped, entry
from medmtl.evaluation.tasks import PredictedTask
from medmtl.metrics import (
    accuracy,
    balanced_accuracy,
    expected_calibration_error,
    macro_auc,
    wilson_interval,
)
from medmtl.registry import nearest
from medmtl.types import ConfigError


def fill_classes(
    task: PredictedTask, dataset: Dataset, predictions: Predictions, record: CaseRecord, ok: bool
) -> None:
    """Adds predicted class, truth and probabilities of one case to its record.

    Raises:
        ConfigError: the predicted class is neither one of the dataset's nor one that the predictions declare.
    """
    truth = _truth(task, dataset, record.case_id)
    predicted = ""
    if ok:
        header = predictions.header_of(task.name, "class")
        predicted = predictions.text(record.case_id, header)
        _check_class(task, dataset, predictions, record.case_id, header, predicted)
    record.row[f"{task.name}.class"] = predicted or None
    record.row[f"{task.name}.truth"] = truth
    for name in task.classes:
        header = predictions.header_of(task.name, f"probability.{name}")
        value = predictions.number(record.case_id, header) if ok else math.nan
        record.row[f"{task.name}.probability.{name}"] = value
    if ok and truth is not None and not predicted:
        message = f"{TABLE_FILE}: {task.target} has a true class and column '{task.name}.class' is blank"
        record.missing.append(Missing(record.case_id, task.name, "error", "", message))


def summarise_classes(
    task: PredictedTask, dataset: Dataset, records: Sequence[CaseRecord], seed: int
) -> tuple[dict[str, Entry], list[str]]:
    """Scores over the cases that have both a predicted and a true class, and notes on what is undefined.

    AUC and calibration need a probability of every class of the dataset. Intervals: Wilson's for the
    accuracy, bootstrap over cases for the others.
    """
    scored = [r for r in records if r.row[f"{task.name}.class"] and r.row[f"{task.name}.truth"]]
    guess = np.array([record.row[f"{task.name}.class"] for record in scored], dtype=object)
    true = np.array([record.row[f"{task.name}.truth"] for record in scored], dtype=object)
    right, n = int((guess == true).sum()), len(scored)
    entries = {
        "accuracy": entry(accuracy(guess, true), wilson_interval(right, n), n),
        "balanced_accuracy": bootstrapped(balanced_accuracy, guess, true, seed=seed, n=n),
    }
    scores, notes = _probability_scores(task, dataset, scored, true, seed)
    return entries | scores, notes


def _probability_scores(
    task: PredictedTask, dataset: Dataset, scored: Sequence[CaseRecord], true: NDArray[Any], seed: int
) -> tuple[dict[str, Entry], list[str]]:
    column = dataset.columns.get(task.target)
    classes = column.classes if column is not None and column.kind == "category" else ()
    absent = [name for name in classes if name not in task.classes]
    notes = []
    probability_NC = np.array(
        [
            [record.row.get(f"{task.name}.probability.{name}", math.nan) for name in classes]
            for record in scored
        ],
        dtype=np.float64,
    ).reshape(len(scored), len(classes))
    known = np.isfinite(probability_NC).all(axis=1) & bool(classes)
    probability_NC, true = probability_NC[known], true[known]
    n = len(true)
    if absent and scored:
        notes.append(f"{task.name}: no probability of {', '.join(absent)}, so there is no AUC")
    elif n:
        defined = macro_auc(probability_NC, true, classes).n
        if defined < len(classes):
            notes.append(
                f"{task.name}: the AUC is over {defined} of {len(classes)} classes; the others have no case"
            )
    codes = {name: code for code, name in enumerate(classes)}
    code_N = np.array([codes[name] for name in true], dtype=np.int64)
    numbers = range(len(classes))
    return {
        "auc": bootstrapped(lambda p, y: macro_auc(p, y, numbers), probability_NC, code_N, seed=seed, n=n),
        "ece": bootstrapped(
            lambda p, y: expected_calibration_error(p, y, numbers), probability_NC, code_N, seed=seed, n=n
        ),
    }, notes


def _truth(task: PredictedTask, dataset: Dataset, case_id: str) -> str | None:
    column = dataset.columns.get(task.target)
    if column is None or column.kind != "category":
        return None
    value = dataset.targets.at[case_id, task.target]
    return value if isinstance(value, str) and value else None


def _check_class(
    task: PredictedTask,
    dataset: Dataset,
    predictions: Predictions,
    case_id: str,
    header: Header | None,
    predicted: str,
) -> None:
    column = dataset.columns.get(task.target)
    known = [*(column.classes if column is not None else ()), *task.classes]
    if predicted and known and predicted not in known:
        name = header.column if header is not None else ""
        raise ConfigError(
            f"{predictions.root / TABLE_FILE}, row {predictions.rows[case_id]}, column {name!r}: found "
            f"{predicted!r}, which is no class of {task.target}{nearest(predicted, sorted(set(known)))}"
        )
