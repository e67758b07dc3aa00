"""Where a plan's voxels are, asked by labels: point in the patient -> voxel, file -> slice and frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.model import Correction, VolumePlan

TOLERANCE = 0.1
"""How far, in voxels, a label may lie from the grid and still be on it; as for two images of one grid."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class LabelGrid:
    """The planes of a plan as labels are drawn on them: before the correction of a tilted or uneven stack.

    Attributes:
        shape: ``(X, Y, Z)``: columns, rows and slices.
        frames: T, 1 for a 3D volume.
        basis: ``(3, 3)`` LPS mm; columns are a step of one voxel along x and y, and the unit normal.
        origins: ``(Z, 3)`` LPS mm, centre of the first pixel of every slice, ascending along the normal.
        index_of: ``(z, t)`` of every plane by its file's SOPInstanceUID and 0-based frame.
        correction: what brings a frame's ``(Z, rows, columns)`` onto the plan's grid, or None.
    """

    shape: tuple[int, int, int]
    frames: int
    basis: NDArray[np.float64]
    origins: NDArray[np.float64]
    index_of: Mapping[tuple[str, int], tuple[int, int]]
    correction: Correction | None = None

    @classmethod
    def of(cls, plan: VolumePlan) -> LabelGrid:
        """The grid of a plan."""
        index_of = {
            (str(plane.instance.header.get("SOPInstanceUID")), plane.frame): (z, t)
            for z, phases in enumerate(plan.planes)
            for t, plane in enumerate(phases)
            if plane.tile is None
        }
        if plan.correction is None:
            lps = _LPS_TO_RAS @ plan.affine[:3]
            x_y, step, origin = lps[:, :2], lps[:, 2], lps[:, 3]
            origins = origin + np.arange(plan.shape[2])[:, None] * step
            shape = (plan.shape[0], plan.shape[1], plan.shape[2])
        else:
            first = plan.planes[0][0]
            assert first.orientation is not None
            assert first.spacing_mm is not None
            x_y = first.orientation.T * first.spacing_mm[::-1]
            origins = np.array([phases[0].position for phases in plan.planes], dtype=np.float64)
            shape = (first.shape[1], first.shape[0], len(plan.planes))
        normal = np.cross(x_y[:, 0], x_y[:, 1])
        basis = np.column_stack([x_y, normal / np.linalg.norm(normal)])
        return cls(shape, plan.frames, basis, origins, index_of, plan.correction)

    @cached_property
    def planes_of(self) -> Mapping[str, tuple[tuple[int, tuple[int, int]], ...]]:
        """Frames of every file and their ``(z, t)``, by SOPInstanceUID."""
        found: dict[str, list[tuple[int, tuple[int, int]]]] = {}
        for (uid, frame), index in self.index_of.items():
            found.setdefault(uid, []).append((frame, index))
        return {uid: tuple(planes) for uid, planes in found.items()}

    @cached_property
    def heights(self) -> NDArray[np.float64]:
        """Place of every slice along the normal in mm, ``(Z,)``."""
        heights: NDArray[np.float64] = self.origins @ self.basis[:, 2]
        return heights

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size; along z the median distance of slices, and 1 where there is one slice."""
        x, y = np.linalg.norm(self.basis[:, :2], axis=0).tolist()
        return (x, y, float(np.median(np.diff(self.heights))) if len(self.heights) > 1 else 1.0)

    def voxels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points ``(N, 3)`` in LPS mm -> fractional voxel indices ``(N, 3)``, also beyond the grid.

        x and y are those of the nearest slice, whose first pixel need not lie above the next one's.
        """
        heights, at = self.heights, points @ self.basis[:, 2]
        nearest = np.abs(at[:, None] - heights[None, :]).argmin(axis=1)
        x_y = np.linalg.solve(self.basis, (points - self.origins[nearest]).T).T[:, :2]
        step = self.spacing_mm[2]
        z = np.interp(at, heights, np.arange(len(heights), dtype=np.float64))
        z += np.minimum(at - heights[0], 0.0) / step + np.maximum(at - heights[-1], 0.0) / step
        return np.column_stack([x_y, z])

    def corrected(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask ``(X, Y, Z)`` of the planes on the plan's grid: inside where correction leaves half."""
        if self.correction is None:
            return mask
        stack = np.ascontiguousarray(mask.transpose(2, 1, 0), dtype=np.float32)
        return np.ascontiguousarray(self.correction(stack).transpose(2, 1, 0) >= 0.5)
