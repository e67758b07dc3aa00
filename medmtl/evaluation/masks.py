"""Segmentation and tissue tasks: Dice and HD95 per structure and frame, values from predicted masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data import Case, Dataset, measure, phases
from medmtl.data.nifti import Geometry
from medmtl.evaluation.read import Predictions
from medmtl.evaluation.record import CaseRecord, Entry, Missing, Row, mean_entry
from medmtl.evaluation.tasks import PredictedTask
from medmtl.evaluation.volumes import read_predicted_mask, read_truth
from medmtl.metrics import dice, hausdorff
from medmtl.types import UNLABELLED, CaseError

PHASES = ("ED", "ES")
SCORES = {"dice": "", "hd95": "mm"}
"""Scores of a mask and their units."""


def structures_of(task: PredictedTask, dataset: Dataset) -> tuple[str, ...]:
    """Structures to score: those that both the truth and the prediction name, in the dataset's order."""
    column = dataset.columns.get(task.target)
    if column is None or column.kind != "mask":
        return tuple(task.labels)
    return tuple(name for name in column.labels if name in task.labels)


def score_masks(
    task: PredictedTask, case: Case, dataset: Dataset, predictions: Predictions, record: CaseRecord
) -> None:
    """Adds the scores of one case's mask to its record, and what can be measured on it.

    The file is read only where there is a truth to hold it against or a value to measure.
    """
    column = dataset.columns.get(task.target)
    labelled = column is not None and column.kind == "mask" and task.target in case.files
    unmeasured = _unmeasured(task, dataset, predictions)
    if not labelled and not unmeasured:
        return
    grid = dataset.geometry[case.case_id]
    try:
        predicted = read_predicted_mask(predictions.root / case.case_id / task.file, grid)
    except CaseError as error:
        if labelled:
            record.missing.append(Missing(case.case_id, task.name, "error", error.code, str(error)))
        return
    _note_unknown_values(task, predicted, record)
    _measure(task, unmeasured, predicted, case, dataset, record)
    truth = read_truth(case, task.target)
    if column is None or truth is None:
        return
    structures = structures_of(task, dataset)
    names = _frame_names(dataset, case, task, truth)
    for index in range(len(truth)):
        known = truth[index] != UNLABELLED
        if not known.any():
            continue
        row = record.frames.setdefault(names.get(index, str(index)), {})
        for structure in structures:
            guess = (predicted[index] == task.labels[structure]) & known
            true = truth[index] == column.labels[structure]
            _score(task.name, structure, guess, true, grid, row, record)
    record.row[f"{task.name}.dice"] = case_mean(record, task.name, "dice", structures)


def summarise_masks(
    task: PredictedTask, dataset: Dataset, records: Sequence[CaseRecord], phased: bool, seed: int
) -> dict[str, Entry]:
    """Mean over cases of each score: over all structures, per structure, and per structure and phase.

    A case counts once: its structures and frames (ED and ES, or every labelled frame where it has neither)
    are averaged first.

    Args:
        task: a segmentation or tissue task.
        dataset: what it is held against.
        records: of every case.
        phased: whether any case has an ED or ES.
        seed: of the bootstrap.
    """
    entries: dict[str, Entry] = {}
    for score, unit in SCORES.items():
        for name, structures, frames in _groups(structures_of(task, dataset), phased):
            values = [case_mean(record, task.name, score, structures, frames) for record in records]
            entries[score + name] = mean_entry(values, unit, seed)
    return entries


def _groups(
    structures: Sequence[str], phased: bool
) -> Iterator[tuple[str, Sequence[str], Sequence[str] | None]]:
    """What is averaged together: the end of the metric's name, its structures and its frames."""
    yield "", structures, None
    for structure in structures:
        yield f".{structure}", [structure], None
        for phase in PHASES if phased else ():
            yield f".{structure}.{phase}", [structure], [phase]


def case_mean(
    record: CaseRecord,
    task: str,
    score: str,
    structures: Sequence[str],
    frames: Sequence[str] | None = None,
) -> float:
    """Mean of one case's score over structures and frames, ``nan`` where none is defined."""
    if frames is None:
        scored = [
            name for name, row in record.frames.items() if any(key.startswith(f"{task}.") for key in row)
        ]
        frames = [name for name in scored if name in PHASES] or scored
    cells = [
        record.frames[frame].get(f"{task}.{score}.{structure}", math.nan)
        for frame in frames
        if frame in record.frames
        for structure in structures
    ]
    defined = [cell for cell in cells if not math.isnan(cell)]
    return float(np.mean(defined)) if defined else math.nan


def _score(
    task: str,
    structure: str,
    guess: NDArray[np.bool_],
    true: NDArray[np.bool_],
    grid: Geometry,
    row: Row,
    record: CaseRecord,
) -> None:
    distance = hausdorff(guess, true, grid.spacing_mm)
    if math.isinf(distance):
        distance = float(np.linalg.norm(np.multiply(grid.shape, grid.spacing_mm)))
        which = "predicted where there is none" if guess.any() else "not found"
        record.notes.append(
            f"{task}: {structure} {which}; its Dice is 0 and its HD95 the diagonal of the image"
        )
    elif math.isnan(distance):
        record.notes.append(
            f"{task}: {structure} neither there nor predicted; its scores are undefined and left out"
        )
    row[f"{task}.dice.{structure}"] = dice(guess, true)
    row[f"{task}.hd95.{structure}"] = distance


def _frame_names(dataset: Dataset, case: Case, task: PredictedTask, truth: NDArray[Any]) -> Mapping[int, str]:
    cycle = dataset.cycle
    mask: NDArray[Any] | None = None
    label: int | None = None
    if cycle is not None and None in (case.frame_ed, case.frame_es):
        mask = truth if cycle.mask == task.target else read_truth(case, cycle.mask)
        label = dataset.columns[cycle.mask].labels[cycle.structure]
    found = phases((case.frame_ed, case.frame_es), mask, label)
    return {index: phase for index, phase in zip(found, PHASES, strict=True) if index is not None}


def _unmeasured(task: PredictedTask, dataset: Dataset, predictions: Predictions) -> list[str]:
    """Derived columns of the dataset for which ``predictions.csv`` has no column of this task."""
    return [
        name for name in task.measurable(dataset.columns) if predictions.header_of(task.name, name) is None
    ]


def _measure(
    task: PredictedTask,
    names: Sequence[str],
    predicted: NDArray[Any],
    case: Case,
    dataset: Dataset,
    record: CaseRecord,
) -> None:
    cycle = dataset.cycle
    on_this = cycle is not None and cycle.mask == task.target
    label = task.labels.get(cycle.structure) if cycle is not None and on_this else None
    frame_ed, frame_es = phases((case.frame_ed, case.frame_es), predicted, label)
    for name in names:
        column = dataset.columns[name]
        assert column.derived is not None
        value = measure(
            column.derived,
            {task.target: predicted},
            task.labels,
            dataset.geometry[case.case_id].voxel_ml,
            frame_ed,
            frame_es,
        )
        record.measured[task.name, name] = math.nan if value is None else value


def _note_unknown_values(task: PredictedTask, predicted: NDArray[Any], record: CaseRecord) -> None:
    if not task.labels:
        return
    unknown = sorted(set(np.unique(predicted).tolist()) - {0, *task.labels.values()})
    if unknown:
        values = ", ".join(f"{value:g}" for value in unknown[:5])
        record.notes.append(
            f"{task.name}: voxel value(s) {values} are no structure of the prediction ({dict(task.labels)}) "
            "and count as background"
        )
