"""Regions of a structure set as masks on a plan's grid.

A region is a set of closed outlines, each in one slice. Within a slice the even-odd rule holds: an outline
inside another is a hole, which is also what the keyhole technique and ``CLOSEDPLANAR_XOR`` mean. A slice
belongs to the region only where an outline was drawn on it: nothing is put between slices.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.labelgrid import TOLERANCE, LabelGrid
from medmtl.data.dicom.rasterize import fill
from medmtl.data.dicom.rtstruct import Outline, Region, StructureSet
from medmtl.types import CaseError, Finding

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


def region_mask(
    structures: StructureSet, number: int, grid: LabelGrid
) -> tuple[NDArray[np.bool_], list[Finding]]:
    """Voxels whose centre lies inside a region.

    Args:
        structures: the structure set.
        number: of the region.
        grid: image to draw it on.

    Returns:
        ``(X, Y, Z)``, or ``(X, Y, Z, T)`` on a 4D plan, boolean; and what is worth knowing about it.

    Raises:
        CaseError: ``LABEL_VALUES`` (no such region, no contours, or contours that enclose nothing),
            ``LABEL_GEOMETRY_MISMATCH`` (a contour between slices, across them, or outside the image) or
            ``TIME_AMBIGUOUS`` (it does not say to which frame of a 4D image it belongs).
    """
    region = structures.region(number)
    mask = np.zeros((grid.frames, *grid.shape), dtype=bool)
    findings = []
    slices = _by_slice(structures, region, grid)
    for (time, z), outlines in slices.items():
        mask[time, :, :, z] = fill(outlines, grid.shape[:2])
        if _cross(outlines, mask[time, :, :, z], grid.shape[:2]):
            text = f"region {number} ({region.label}): contours overlap in slice {z}; the overlap is cut out"
            findings.append(Finding("LABEL_VALUES", "warning", text, structures.name))
    if skipped := _skipped({z for _, z in slices}):
        shown = ", ".join(str(z) for z in skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        text = (
            f"region {number} ({region.label}): no contour in slice(s) {shown}, between slices that have one"
        )
        findings.append(Finding("LABEL_VALUES", "warning", f"{text}; they stay empty", structures.name))
    corrected = np.stack([grid.corrected(frame) for frame in mask])
    shaped = corrected[0] if grid.frames == 1 else np.ascontiguousarray(np.moveaxis(corrected, 0, 3))
    return shaped, findings


def region_frames(structures: StructureSet, number: int, grid: LabelGrid) -> list[int]:
    """Frames of an image that a region was drawn on.

    Raises:
        CaseError: as for `region_mask`.
    """
    return sorted({time for time, _ in _by_slice(structures, structures.region(number), grid)})


def _by_slice(
    structures: StructureSet, region: Region, grid: LabelGrid
) -> dict[tuple[int, int], list[NDArray[np.float64]]]:
    """Outlines ``(N, 2)`` in voxels by frame and slice."""
    where = f"{structures.name}, region {region.number} ({region.label})"
    if not region.outlines:
        raise CaseError("LABEL_VALUES", f"{where}: has no contours; draw it, or leave it out")
    slices: dict[tuple[int, int], list[NDArray[np.float64]]] = defaultdict(list)
    for count, outline in enumerate(region.outlines, start=1):
        at = f"{where}, contour {count}"
        if outline.type not in _CLOSED:
            text = f"is {outline.type or 'of no type'}, and only closed contours in one plane enclose voxels"
            raise CaseError("LABEL_VALUES", f"{at}: {text}; leave the region out")
        if len(outline.points) < 3:
            raise CaseError("LABEL_VALUES", f"{at}: has {len(outline.points)} point(s), and encloses nothing")
        voxels = grid.voxels(outline.points)
        z = _slice(at, voxels[:, 2], grid)
        low, high = voxels[:, :2].min(axis=0), voxels[:, :2].max(axis=0)
        if (low < -0.5 - TOLERANCE).any() or (high > np.array(grid.shape[:2]) - 0.5 + TOLERANCE).any():
            raise CaseError(
                "LABEL_GEOMETRY_MISMATCH", f"{at}: reaches beyond the image; see whose image it was drawn on"
            )
        slices[_time(at, outline, grid), z].append(voxels[:, :2])
    return dict(sorted(slices.items()))


def _slice(where: str, heights: NDArray[np.float64], grid: LabelGrid) -> int:
    """The slice that all points of a contour lie on."""
    middle = float(np.median(heights))
    z = round(middle)
    step = grid.spacing_mm[2]
    if float(heights.max() - heights.min()) > 2 * TOLERANCE:
        thick = float(heights.max() - heights.min()) * step
        text = f"runs across slices ({thick:.2g} mm along their normal)"
    elif not 0 <= z < grid.shape[2]:
        text = "lies beyond the image's first or last slice"
    elif abs(middle - z) > TOLERANCE:
        text = f"lies {abs(middle - z) * step:.2g} mm off the nearest slice"
    else:
        return z
    raise CaseError("LABEL_GEOMETRY_MISMATCH", f"{where}: {text}; see whose image it was drawn on")


def _time(where: str, outline: Outline, grid: LabelGrid) -> int:
    if grid.frames == 1:
        return 0
    times = {
        index[1]
        for uid, frame in outline.images
        if (index := grid.index_of.get((uid, frame or 0))) is not None
    }
    if len(times) != 1:
        found = f"it names images of {len(times)} frames" if times else "it names none of the image's files"
        text = (
            f"belongs to one of the image's {grid.frames} frames, and {found}; draw it on one frame's images"
        )
        raise CaseError("TIME_AMBIGUOUS", f"{where}: {text}")
    return times.pop()


def _cross(outlines: list[NDArray[np.float64]], result: NDArray[np.bool_], shape: tuple[int, int]) -> bool:
    """Whether two outlines of a slice overlap without one being inside the other."""
    if len(outlines) < 2:
        return False
    filled = [fill([outline], shape) for outline in outlines]
    if sum(int(one.sum()) for one in filled) == int(result.sum()):
        return False
    for i, one in enumerate(filled):
        for other in filled[i + 1 :]:
            shared = int((one & other).sum())
            if 0 < shared < 0.9 * min(int(one.sum()), int(other.sum())):
                return True
    return False


def _skipped(slices: set[int]) -> list[int]:
    return sorted(set(range(min(slices), max(slices))) - slices)
