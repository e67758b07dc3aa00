"""Where each frame of a segmentation lies on the voxels of an image: exactly where it says, or nowhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.labelgrid import TOLERANCE, LabelGrid
from medmtl.data.dicom.seg import Segmentation, SegmentFrame
from medmtl.types import CaseError


@dataclass(frozen=True, eq=False)
class Slab:
    """A frame that coincides with voxels of the grid.

    Attributes:
        frame: the frame.
        time: its frame of a 4D image, 0 for a 3D one.
        start: voxel of its first pixel ``(3,)``; may lie outside the grid.
        column: grid axis along which the column index grows, and +1 or -1.
        row: likewise of the row index.
    """

    frame: SegmentFrame
    time: int
    start: NDArray[np.int64]
    column: tuple[int, int]
    row: tuple[int, int]


def frame_time(segmentation: Segmentation, frame: SegmentFrame, grid: LabelGrid) -> int:
    """The frame of a 4D image that a segmentation's frame is about; 0 where the image is 3D.

    Raises:
        CaseError: ``TIME_AMBIGUOUS``: the files that it was made from do not say.
    """
    if grid.frames == 1:
        return 0
    times = {t for _, t in _planes(frame, grid)}
    if len(times) != 1:
        found = f"it names images of {len(times)} frames" if times else "it names none of the image's files"
        text = (
            f"belongs to one of the image's {grid.frames} frames, and {found}; draw it on one frame's images"
        )
        raise CaseError("TIME_AMBIGUOUS", f"{_where(segmentation, frame)}: {text}")
    return times.pop()


def slab_of(segmentation: Segmentation, frame: SegmentFrame, grid: LabelGrid) -> Slab:
    """Finds the voxels that a frame covers.

    Raises:
        CaseError: see `place`.
    """
    where, time = _where(segmentation, frame), frame_time(segmentation, frame, grid)
    rows, columns = segmentation.shape
    if frame.position is None or frame.orientation is None or frame.spacing_mm is None:
        slices = {z for z, _ in _planes(frame, grid)}
        if len(slices) == 1 and (columns, rows) == grid.shape[:2]:
            return Slab(frame, time, np.array([0, 0, slices.pop()]), (0, 1), (1, 1))
        text = "says neither where it lies nor which image it was drawn on"
        raise CaseError("MISSING_GEOMETRY", f"{where}: {text}; export the segmentation again")
    across, down = max(columns - 1, 1), max(rows - 1, 1)
    step_x = frame.orientation[0] * frame.spacing_mm[1]
    step_y = frame.orientation[1] * frame.spacing_mm[0]
    corners = frame.position + np.array(
        [0 * step_x, across * step_x, down * step_y, across * step_x + down * step_y]
    )
    voxels = grid.voxels(corners)
    nearest = np.rint(voxels).astype(np.int64)
    column, row = (
        _axis(nearest[1] - nearest[0], across),
        _axis(nearest[2] - nearest[0], down),
    )
    off = float(np.abs(voxels - nearest).max())
    if off > TOLERANCE or column is None or row is None or column[0] == row[0]:
        raise CaseError("LABEL_GEOMETRY_MISMATCH", f"{where}: {_difference(voxels, (across, down), grid)}")
    return Slab(frame, time, nearest[0], column, row)


def _where(segmentation: Segmentation, frame: SegmentFrame) -> str:
    return f"{segmentation.name}, frame {frame.index + 1}"


def _planes(frame: SegmentFrame, grid: LabelGrid) -> set[tuple[int, int]]:
    """``(z, t)`` of the planes that a frame says it was made from; a file without number is all of it."""
    return {
        index
        for uid, wanted in frame.sources
        for number, index in grid.planes_of.get(uid, ())
        if wanted in (None, number)
    }


def _axis(step: NDArray[np.int64], count: int) -> tuple[int, int] | None:
    """The grid axis that ``count`` voxels run along, and which way; None where they do not."""
    axis = int(np.abs(step).argmax())
    if abs(int(step[axis])) != count or np.count_nonzero(step) != 1:
        return None
    return axis, 1 if step[axis] > 0 else -1


def _difference(voxels: NDArray[np.float64], count: tuple[int, int], grid: LabelGrid) -> str:
    """What sets a frame apart from the grid, in one sentence."""
    sizes = np.array(grid.spacing_mm)
    for name, corner, n in (("column", voxels[1], count[0]), ("row", voxels[2], count[1])):
        step = (corner - voxels[0]) / n
        size = float(np.linalg.norm(step * sizes))
        axis = int(np.abs(step).argmax())
        if abs(size - sizes[axis]) > TOLERANCE * sizes[axis] / n:
            other = f"a step of one {name} is {size:.4g} mm, and the image's voxels are {sizes[axis]:.4g} mm"
            return f"does not lie on the image's grid: {other}; bring both onto one grid"
    off = (voxels - np.rint(voxels)) * sizes
    worst = int(np.abs(off).max(axis=0).argmax())
    across = ("columns", "rows", "slices")[worst]
    return (
        f"does not lie on the image's grid: it is {float(np.abs(off).max()):.2g} mm off its {across}; "
        "see whose image it was drawn on"
    )
