"""Volumes, masses and ejection fractions that follow from predicted masks, on the grid of the files."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medmtl.data.dataset import Column, Cycle
from medmtl.data.derive import measure, phases
from medmtl.tasks import Task, value_name


def find_phases(
    tasks: Mapping[str, Task],
    dense: Mapping[str, np.ndarray],
    cycle: Cycle | None,
    given: tuple[int | None, int | None],
) -> tuple[int | None, int | None]:
    """ED and ES frames as given, else where the predicted structure is largest and smallest."""
    if None not in given or cycle is None:
        return given
    for name, task in tasks.items():
        if name in dense and cycle.mask in task.targets and cycle.structure in task.structures:
            if len(dense[name]) < 2:
                return (0, None) if given[0] is None else given
            return phases(given, dense[name], task.columns[cycle.mask].labels[cycle.structure])
    return given


def quantities_from_masks(
    task: Task,
    mask: np.ndarray,
    columns: Mapping[str, Column],
    voxel_ml: float,
    frames: tuple[int | None, int | None],
) -> dict[str, float]:
    """Every derived value column that is measured on this task's mask, such as ``{"LV_EF [%]": 55.1}``.

    Args:
        task: a segmentation or tissue task.
        mask: its labels ``(T, X, Y, Z)``.
        columns: the value columns that the model knows.
        voxel_ml: volume of a voxel in mL.
        frames: of ED and ES; a quantity that needs an unknown one is left out.
    """
    found: dict[str, float] = {}
    for column in columns.values():
        if column.derived is None or column.derived.mask not in task.targets:
            continue
        labels = task.columns[column.derived.mask].labels
        value = measure(column.derived, {column.derived.mask: mask}, labels, voxel_ml, *frames)
        if value is not None:
            found[value_name(column.name, column.unit)] = value
    return found
