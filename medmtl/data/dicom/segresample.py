"""A segmentation on a grid that is not its own: a voxel takes the nearest pixel, where that is asked for."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.labelgrid import LabelGrid
from medmtl.data.dicom.seg import Segmentation, SegmentFrame
from medmtl.data.dicom.segmasks import THRESHOLD, inside
from medmtl.data.dicom.segplace import frame_time
from medmtl.types import CaseError

_ALIKE = 1e-3


def nearest_mask(
    segmentation: Segmentation, number: int, grid: LabelGrid, threshold: float = THRESHOLD
) -> NDArray[np.bool_]:
    """Voxels of one segment, each taken from the nearest pixel of the nearest frame.

    A voxel further from every frame than half the distance between frames is outside.

    Args:
        segmentation: the segmentation.
        number: of the segment.
        grid: the image's.
        threshold: of a fractional segmentation.

    Returns:
        ``(X, Y, Z)``, or ``(X, Y, Z, T)`` on a 4D plan, boolean.

    Raises:
        CaseError: ``MISSING_GEOMETRY``: frames do not say where they are, or are not parallel;
            ``LABEL_VALUES``:
            there is no such segment; ``TIME_AMBIGUOUS``: as for `place`.
    """
    if number not in segmentation.segments:
        raise CaseError("LABEL_VALUES", f"{segmentation.name}: has no segment {number}")
    by_time: dict[int, list[SegmentFrame]] = defaultdict(list)
    for frame in segmentation.frames:
        if frame.segment in (None, number):
            by_time[frame_time(segmentation, frame, grid)].append(frame)
    mask = np.zeros((grid.frames, *grid.shape), dtype=bool)
    for time, frames in by_time.items():
        mask[time] = grid.corrected(_sampled(segmentation, number, frames, grid, threshold))
    return mask[0] if grid.frames == 1 else np.ascontiguousarray(np.moveaxis(mask, 0, 3))


def _sampled(
    segmentation: Segmentation, number: int, frames: list[SegmentFrame], grid: LabelGrid, threshold: float
) -> NDArray[np.bool_]:
    basis, heights, origins = _stack(segmentation, frames)
    half = _half_gap(segmentation, heights, basis)
    rows, columns = segmentation.shape
    pixels = np.stack([inside(segmentation, segmentation.pixels(f.index), number, threshold) for f in frames])
    x, y = np.meshgrid(np.arange(grid.shape[0]), np.arange(grid.shape[1]), indexing="ij")
    plane = x[..., None] * grid.basis[:, 0] + y[..., None] * grid.basis[:, 1]
    found = np.zeros(grid.shape, dtype=bool)
    for z, origin in enumerate(grid.origins):
        points = (origin + plane).reshape(-1, 3)
        at = points @ basis[:, 2]
        nearest = np.abs(at[:, None] - heights[None, :]).argmin(axis=1)
        local = np.linalg.solve(basis, (points - origins[nearest]).T)
        column, row = np.rint(local[0]).astype(int), np.rint(local[1]).astype(int)
        near = (np.abs(local[2]) <= half) & (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        hit = np.zeros(len(points), dtype=bool)
        hit[near] = pixels[nearest[near], row[near], column[near]]
        found[:, :, z] = hit.reshape(grid.shape[:2])
    return found


def _stack(
    segmentation: Segmentation, frames: list[SegmentFrame]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Directions of the frames' common stack, and height and origin of every frame."""
    found = [_geometry(frame) for frame in frames]
    geometries = [geometry for geometry in found if geometry is not None]
    if len(geometries) < len(frames) or not all(
        np.allclose(basis, geometries[0][0], atol=_ALIKE) for basis, _ in geometries
    ):
        text = "frames do not lie parallel on one grid, so they cannot be resampled"
        raise CaseError("MISSING_GEOMETRY", f"{segmentation.name}: {text}; export the segmentation again")
    basis = geometries[0][0]
    origins = np.array([origin for _, origin in geometries])
    return basis, origins @ basis[:, 2], origins


def _geometry(frame: SegmentFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Steps along x and y and the normal ``(3, 3)``, and the position, of a frame that says both."""
    if frame.position is None or frame.orientation is None or frame.spacing_mm is None:
        return None
    across, down = frame.orientation
    steps = [across * frame.spacing_mm[1], down * frame.spacing_mm[0], np.cross(across, down)]
    return np.column_stack(steps), frame.position


def _half_gap(segmentation: Segmentation, heights: NDArray[np.float64], basis: NDArray[np.float64]) -> float:
    """Half the distance of slices: as stated, or as frames lie if closer (empty ones may be left out)."""
    stated = segmentation.frames[0].step_mm
    every = np.array([f.position @ basis[:, 2] for f in segmentation.frames if f.position is not None])
    steps = np.diff(np.unique(np.round(np.concatenate([every, heights]), 3)))
    found = [step for step in (stated, float(steps.min()) if steps.size else None) if step is not None]
    if not found:
        text = "has one frame and states no slice thickness, so it cannot be resampled"
        raise CaseError("MISSING_GEOMETRY", f"{segmentation.name}: {text}; export the segmentation again")
    return 0.5 * min(found) + 1e-6
