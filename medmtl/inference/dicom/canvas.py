"""The planes that labels are written on: where each lies, and which images it was made from.

Labels of an image whose slices were taken as they are lie on those very slices. Labels of an image that was
resampled (a tilted gantry, uneven gaps) or cut out of a mosaic lie on planes of their own; they name the
images that they were made from, and say that pixels do not correspond one to one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.model import Plane, VolumePlan
from medmtl.types import CaseError

_LPS = np.diag([-1.0, -1.0, 1.0])
_ROUNDED = 5e-3
"""How far direction cosines as written may be from unit length and a right angle."""

Vector = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Sheet:
    """One plane of a label array.

    Attributes:
        z: its slice.
        t: its phase.
        position: centre of the first pixel, LPS mm.
        orientation: direction cosines of growing column index, then of growing row index.
        spacing_mm: between rows, between columns.
        sources: the images that it was made from, at least one.
        same_pixels: whether its pixels are those of its one source.
    """

    z: int
    t: int
    position: Vector
    orientation: Vector
    spacing_mm: Vector
    sources: tuple[Plane, ...]
    same_pixels: bool


@dataclass(frozen=True, eq=False)
class Canvas:
    """All planes of a plan's label array ``(T, X, Y, Z)``.

    Attributes:
        plan: the image that the labels lie on.
    """

    plan: VolumePlan

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the label array: ``(T, X, Y, Z)``."""
        x, y, z = self.plan.shape[:3]
        return (self.plan.frames, x, y, z)

    @property
    def step_mm(self) -> float:
        """From slice to slice."""
        return self.plan.spacing_mm[2]

    @property
    def thickness_mm(self) -> float:
        """As the images say it; the step where they do not."""
        found = self.plan.planes[0][0].get("SliceThickness")
        return float(found) if found and found > 0 else self.step_mm

    def sheet(self, t: int, z: int) -> Sheet:
        """The plane of a phase and slice."""
        if self.plan.correction is not None:
            return self._resampled(t, z)
        plane = self.plan.planes[z][t]
        if plane.position is None or plane.orientation is None or plane.spacing_mm is None:
            where = plane.instance.source.label
            raise CaseError("MISSING_GEOMETRY", f"{where}: does not say where it lies")
        return Sheet(
            z,
            t,
            tuple(plane.position.tolist()),
            _orientation(plane),
            plane.spacing_mm,
            (plane,),
            plane.tile is None,
        )

    def sheets(self) -> Iterator[Sheet]:
        """Every plane, phase by phase."""
        for t in range(self.plan.frames):
            for z in range(self.plan.shape[2]):
                yield self.sheet(t, z)

    @cached_property
    def _grid(self) -> NDArray[np.float64]:
        """``(3, 4)`` index to LPS mm."""
        grid: NDArray[np.float64] = _LPS @ self.plan.affine[:3]
        return grid

    @cached_property
    def _heights(self) -> NDArray[np.float64]:
        """Of the images' slices along the normal, ascending."""
        normal = self._grid[:, 2] / np.linalg.norm(self._grid[:, 2])
        positions = np.array([row[0].position for row in self.plan.planes], dtype=np.float64)
        heights: NDArray[np.float64] = positions @ normal
        return heights

    def _resampled(self, t: int, z: int) -> Sheet:
        """A plane of the grid after correction; its sources are the slices on either side."""
        grid = self._grid
        position = grid[:, 3] + z * grid[:, 2]
        sizes = np.linalg.norm(grid[:, :2], axis=0)
        height = float(position @ grid[:, 2] / np.linalg.norm(grid[:, 2]))
        below = int(np.searchsorted(self._heights, height + 1e-3, side="right")) - 1
        below = min(max(below, 0), len(self._heights) - 1)
        above = min(below + 1, len(self._heights) - 1)
        nearby = [below] if abs(float(self._heights[below]) - height) < 1e-2 else [below, above]
        return Sheet(
            z,
            t,
            tuple(position.tolist()),
            (*(grid[:, 0] / sizes[0]).tolist(), *(grid[:, 1] / sizes[1]).tolist()),
            (float(sizes[1]), float(sizes[0])),
            tuple(self.plan.planes[source][t] for source in dict.fromkeys(nearby)),
            False,
        )


def _orientation(plane: Plane) -> Vector:
    """As the image writes it, so that viewers find both equal; the unit vectors where that is not sound."""
    assert plane.orientation is not None
    written = plane.get("ImageOrientationPatient") if plane.tile is None else None
    unit = plane.orientation.ravel()
    if written is not None and np.abs(np.asarray(written) - unit).max() <= _ROUNDED:
        return tuple(float(value) for value in written)
    return tuple(unit.tolist())
