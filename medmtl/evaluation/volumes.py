"""Predicted volumes, read and held against the grid of their case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data import Case
from medmtl.data.nifti import Geometry, frames_first, read_volume
from medmtl.types import CaseError

ROUNDING = 1e-3
"""How far a stored label may be from a whole number; float files and header scaling leave such traces."""


def read_prediction(path: Path, grid: Geometry) -> NDArray[Any]:
    """A predicted volume ``(T, X, Y, Z)`` on the grid of the case's image.

    It is never resampled: a score on another grid than the truth's would measure the resampling too.

    Args:
        path: NIfTI file, 3D or 4D.
        grid: of the case's image.

    Raises:
        CaseError: the file is missing or damaged, or ``LABEL_GEOMETRY_MISMATCH`` (shape, affine or
            frame count differ).
    """
    volume = read_volume(path)
    difference = volume.geometry.differs_from(grid)
    if difference:
        raise CaseError(
            "LABEL_GEOMETRY_MISMATCH",
            f"{path}: has {difference} of the case's image; write the prediction on the image's own grid",
        )
    if volume.geometry.frames != grid.frames:
        raise CaseError(
            "LABEL_GEOMETRY_MISMATCH",
            f"{path}: has {volume.geometry.frames} frame(s) and the case's image {grid.frames}; "
            "write one mask per frame",
        )
    return frames_first(volume.array)


def read_predicted_mask(path: Path, grid: Geometry) -> NDArray[Any]:
    """A predicted mask ``(T, X, Y, Z)`` of whole numbers.

    Raises:
        CaseError: as :func:`read_prediction`, or ``LABEL_VALUES`` where a voxel holds a fraction.
    """
    array = read_prediction(path, grid)
    if array.dtype.kind in "bui":
        return array
    labels = np.rint(array)
    if not bool((np.abs(array - labels) <= ROUNDING).all()):
        raise CaseError(
            "LABEL_VALUES", f"{path}: holds fractions; write each voxel's label, not a probability"
        )
    return labels


def read_truth(case: Case, column: str) -> NDArray[Any] | None:
    """The labelled volume ``(T, X, Y, Z)`` of a mask or map column, None where the case has none."""
    path = case.files.get(column)
    return None if path is None else frames_first(read_volume(path).array)
