"""What a predictions folder without ``outputs.yaml`` holds, told from its headers, its files and the dataset.

Such a folder was made elsewhere, so its masks are read with the *dataset's* voxel values; where they differ,
as between M&Ms and ACDC, ``outputs.yaml`` has to say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from medmtl.data import Column
from medmtl.evaluation.header import Header
from medmtl.evaluation.tasks import MASK_KINDS, PredictedTask

SEGMENTATION = "segmentation.nii.gz"
SUFFIX = ".nii.gz"


def infer_tasks(
    headers: Iterable[Header], files: Iterable[str], columns: Mapping[str, Column]
) -> tuple[dict[str, PredictedTask], list[str]]:
    """Tasks that the columns and files of a predictions folder speak of.

    Args:
        headers: output columns of ``predictions.csv``.
        files: names of the volumes in the case folders.
        columns: of the dataset.

    Returns:
        The tasks by name, and a note for each file that could not be understood.
    """
    by_task: dict[str, list[Header]] = {}
    for header in headers:
        by_task.setdefault(header.task, []).append(header)
    tasks: dict[str, PredictedTask] = {}
    notes: list[str] = []
    masks = [name for name, column in columns.items() if column.kind == "mask"]
    for file in sorted(set(files), key=lambda name: (name != SEGMENTATION, name)):
        task = _task_of_file(file, by_task, columns, masks, taken=tasks)
        if task is None:
            notes.append(f"{file}: no mask or map column of the dataset has this name, so it is not scored")
        else:
            tasks[task.name] = task
    for name, own in by_task.items():
        if name not in tasks:
            tasks[name] = _task_of_columns(name, own, columns)
    return tasks, notes


def with_value_columns(
    tasks: Mapping[str, PredictedTask], headers: Iterable[Header]
) -> dict[str, PredictedTask]:
    """The same tasks, each with the value columns that ``predictions.csv`` has for it."""
    found: dict[str, dict[str, str]] = {name: dict(task.values) for name, task in tasks.items()}
    classes: dict[str, list[str]] = {name: list(task.classes) for name, task in tasks.items()}
    for header in headers:
        task = tasks.get(header.task)
        if task is None:
            continue
        if task.kind == "classification":
            if header.probability_of and header.probability_of not in classes[task.name]:
                classes[task.name].append(header.probability_of)
        elif header.unit or header.name not in found[task.name]:
            found[task.name][header.name] = header.unit
    return {
        name: replace(task, values=found[name], classes=tuple(classes[name])) for name, task in tasks.items()
    }


def _task_of_file(
    file: str,
    by_task: Mapping[str, list[Header]],
    columns: Mapping[str, Column],
    masks: list[str],
    taken: Mapping[str, PredictedTask],
) -> PredictedTask | None:
    stem = file.removesuffix(SUFFIX)
    if file == SEGMENTATION and stem not in columns:
        named = [name for name in masks if name in by_task]
        stem = (named or masks or [stem])[0]
        if not masks:
            return PredictedTask(stem, "segmentation", target=stem, file=file)
    column = columns.get(stem)
    if column is None or stem in taken:
        return None
    if column.kind == "mask":
        return PredictedTask(stem, MASK_KINDS[0], target=stem, file=file, labels=column.labels)
    if column.kind == "map":
        return PredictedTask(stem, "dense_regression", target=stem, file=file)
    return None


def _task_of_columns(name: str, headers: list[Header], columns: Mapping[str, Column]) -> PredictedTask:
    if not any(header.is_class for header in headers):
        return PredictedTask(name, "regression")
    classes = tuple(header.probability_of for header in headers if header.probability_of)
    categories = {key: column for key, column in columns.items() if column.kind == "category"}
    same = [key for key, column in categories.items() if set(column.classes) == set(classes)]
    target = name if name in categories else (same or list(categories) or [name])[0]
    return PredictedTask(name, "classification", target=target, classes=classes)
