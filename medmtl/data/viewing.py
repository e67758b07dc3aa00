"""How slices are looked at: which way they are turned, and which values are black and white."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Plane:
    """How the slices of a volume are looked at.

    Attributes:
        slice_axis: voxel axis through the stack.
        rows, columns: voxel axes that run down and across the screen.
        flip_rows, flip_columns: whether they run the other way on screen.
        top, left: anatomical direction at the upper and left edge.
    """

    slice_axis: int
    rows: int
    columns: int
    flip_rows: bool
    flip_columns: bool
    top: str
    left: str

    def slice(self, data_XYZ: NDArray[Any], index: int) -> NDArray[Any]:
        """One slice as (rows, columns) on the screen; a view."""
        plane = np.moveaxis(data_XYZ, self.slice_axis, 0)[index]
        if self.rows > self.columns:
            plane = plane.T
        return np.asarray(plane[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1])


def viewing_plane(affine: NDArray[np.float64], spacing_mm: Sequence[float]) -> Plane:
    """Radiological view of the acquired slices: patient's left on the right, anterior or head on top.

    The slices are those across the longest voxel side (the last axis where all are equal).
    """
    from nibabel.orientations import io_orientation

    orientation = np.asarray(io_orientation(affine))
    if np.isnan(orientation).any():
        orientation = np.array([[0, 1], [1, 1], [2, 1]], dtype=float)
    longest = max(spacing_mm)
    slice_axis = max(axis for axis in range(3) if spacing_mm[axis] >= longest * 0.999)
    first, second = (axis for axis in range(3) if axis != slice_axis)
    rows, columns = (first, second) if orientation[first, 0] > orientation[second, 0] else (second, first)
    top, left = {1: "A", 2: "S"}[int(orientation[rows, 0])], {0: "R", 1: "A"}[int(orientation[columns, 0])]
    return Plane(
        slice_axis,
        rows,
        columns,
        bool(orientation[rows, 1] > 0),
        bool(orientation[columns, 1] > 0),
        top,
        left,
    )


def window(image: NDArray[Any]) -> tuple[float, float]:
    """Grey window from the 1st to the 99th percentile of the finite voxels."""
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, (1, 99)))
    return (low, high) if high > low else (low, low + 1.0)
