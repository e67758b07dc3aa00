"""Where slices lie: positions along the normal, even or not, straight or tilted, and the affine that follows.

Only ImagePositionPatient, ImageOrientationPatient and PixelSpacing are used; SliceLocation, SliceThickness
and InstanceNumber contradict them in real files (DICOM PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.model import Correction
from medmtl.data.dicom.resample import Chain, Respace, Shift, respaced
from medmtl.types import CaseError, Finding

SAME_DIRECTION = 1e-3
"""Direction cosines that differ by no more are one orientation: 0.06 degrees, 0.3 mm across a chest."""
NOT_UNIT = 5e-3
"""How far written cosines may be from unit length and a right angle: three digits, rounded."""
SAME_SLICE_MM = (0.02, 0.1)
"""Least and largest distance along the normal within which planes are one slice; between, 1 % of the gaps."""
UNEVEN_MM, UNEVEN_SHARE = 0.1, 0.02
"""Slices this far from an even grid, in mm or in steps (the larger), are rounding."""
MISSING_STEP = 1.75
"""A gap of so many steps is a missing slice: nothing between can be interpolated."""
ASKEW_MM, ASKEW_PIXELS = 0.1, 0.1
"""Slices that leave the normal by less, in mm or in pixels (the larger), are straight."""
STEEPEST = 45.0
"""Degrees of tilt beyond which slices are not one stack."""


@dataclass(frozen=True, eq=False)
class Slices:
    """Planes sorted into slices.

    Attributes:
        of_plane: ``(N,)`` slice of each plane, ascending along the normal.
        corner: ``(Z, 3)`` position of each slice's first pixel, LPS mm.
        height: ``(Z,)`` along the normal, mm.
    """

    of_plane: NDArray[np.int64]
    corner: NDArray[np.float64]
    height: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.height)


@dataclass(frozen=True, eq=False)
class Layout:
    """The grid of a volume.

    Attributes:
        shape: ``(X, Y, Z)`` after the correction.
        affine: ``(4, 4)`` voxel index to RAS+ mm.
        correction: what brings the slices onto the grid; None where they lie on it.
        respacing: the part of the correction that changes their number and heights, or None.
        findings: about what was corrected.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    correction: Correction | None
    respacing: Respace | None
    findings: tuple[Finding, ...]


def directions(cosines: Sequence[float] | None) -> NDArray[np.float64] | None:
    """Unit vectors ``(2, 3)`` of growing column and row index; None where six numbers do not say them."""
    if cosines is None or len(cosines) != 6:
        return None
    row, column = np.asarray(cosines, dtype=np.float64).reshape(2, 3)
    lengths = np.sqrt(row @ row), np.sqrt(column @ column)
    if not all(abs(length - 1) <= NOT_UNIT for length in lengths) or abs(row @ column) > NOT_UNIT:
        return None
    row = row / lengths[0]
    column = column - (column @ row) * row
    return np.stack([row, column / np.sqrt(column @ column)])


def normal_of(orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    """``row x column``, along which slices ascend, so that every affine is right-handed."""
    (a, b, c), (d, e, f) = orientation.tolist()
    return np.array([b * f - c * e, c * d - a * f, a * e - b * d])


def slices_of(position: NDArray[np.float64], orientation: NDArray[np.float64], pixel_mm: float) -> Slices:
    """Planes ``(N, 3)`` LPS mm of one orientation, sorted into slices.

    Raises:
        CaseError: ``MIXED_GRID`` where planes of one slice are shifted against each other.
    """
    normal = normal_of(orientation)
    height = position @ normal
    # the least corner stands for its slice, whatever the order of the files
    order = np.lexsort((position[:, 2], position[:, 1], position[:, 0], height))
    gaps = np.diff(height[order])
    largest = float(gaps.max()) if len(gaps) else 0.0
    finest = min(SAME_SLICE_MM[0], 0.1 * pixel_mm)
    same = min(max(finest, 0.01 * largest), SAME_SLICE_MM[1])
    starts = np.concatenate([[True], gaps > same])
    of_plane = np.empty(len(order), dtype=np.int64)
    of_plane[order] = np.cumsum(starts) - 1
    corner = position[order[starts]]
    apart = np.abs((position - corner[of_plane]) @ orientation.T)
    if len(apart) and apart.max() > max(ASKEW_PIXELS * pixel_mm, ASKEW_MM):
        raise CaseError(
            "MIXED_GRID",
            f"planes of one slice are shifted against each other by up to {apart.max():.2f} mm; "
            "reconstruct the series on one grid",
        )
    return Slices(of_plane, corner, height[order[starts]])


def lay_out(
    slices: Slices,
    orientation: NDArray[np.float64],
    spacing_mm: tuple[float, float],
    shape: tuple[int, int],
    *,
    thickness: NDArray[np.float64] | None = None,
    strict: bool = False,
) -> Layout:
    """The right-angled grid of slices.

    Args:
        slices: two or more.
        orientation: ``(2, 3)`` unit vectors.
        spacing_mm: between rows, between columns.
        shape: ``(rows, columns)``.
        thickness: ``(Z,)`` SliceThickness, NaN where unknown: tells wide slices from missing ones.
        strict: refuse what would have to be resampled.

    Raises:
        CaseError: ``SINGLE_SLICE``, ``GAP``, ``NONUNIFORM_SPACING``, ``GANTRY_TILT``, ``MIXED_GRID``.
    """
    if len(slices) < 2:
        raise CaseError("SINGLE_SLICE", "all planes lie at one position; a volume has several slices")
    step, count, uneven = _steps(slices.height, thickness, strict)
    normal = normal_of(orientation)
    corner = slices.corner[0]
    rows, columns = shape
    steps: list[Correction] = []
    findings: list[Finding] = list(uneven)
    shift = _sideways(slices, orientation, spacing_mm, shape, strict)
    if shift is not None:
        findings.append(shift.finding)
        steps.append(Shift(shift.pixels[:, 1], shift.pixels[:, 0], shift.shape))
        corner = corner + shift.origin_mm @ orientation
        rows, columns = shift.shape
    respacing = respaced(slices.height, step, count) if uneven else None
    if respacing is not None:
        steps.append(respacing)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = orientation[0] * spacing_mm[1], orientation[1] * spacing_mm[0]
    lps[:3, 2], lps[:3, 3] = normal * step, corner
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
    correction = None if not steps else steps[0] if len(steps) == 1 else Chain(tuple(steps))
    return Layout((columns, rows, count), affine + 0.0, correction, respacing, tuple(findings))


def is_even(height: NDArray[np.float64]) -> bool:
    """Whether slices at ``(Z,)`` mm, ascending, are one distance apart, but for rounding."""
    step = float(height[-1] - height[0]) / max(len(height) - 1, 1)
    off = float(np.abs(height - height[0] - step * np.arange(len(height))).max())
    return off <= min(max(UNEVEN_MM, UNEVEN_SHARE * step), 0.2 * step)


def tilt_finding(tag: float | None, orientation: NDArray[np.float64], slices: Slices) -> Finding | None:
    """What to say where GantryDetectorTilt, of whatever sign, and the positions disagree; else None."""
    if tag is None or len(slices) < 2:
        return None
    stack = slices.corner[-1] - slices.corner[0]
    straight = abs(float(stack @ normal_of(orientation))) / float(np.linalg.norm(stack))
    found = float(np.degrees(np.arccos(min(straight, 1.0))))
    if abs(abs(tag) - found) <= 0.5:
        return None
    return Finding(
        "GANTRY_TILT",
        "warning",
        f"GantryDetectorTilt says {abs(tag):.1f} degrees, the positions {found:.1f}; the positions were used",
    )


def _steps(
    height: NDArray[np.float64], thickness: NDArray[np.float64] | None, strict: bool
) -> tuple[float, int, list[Finding]]:
    """Slice step, number of slices, and what to say of uneven ones."""
    gaps = np.diff(height)
    step = float(height[-1] - height[0]) / len(gaps)
    if is_even(height):
        return step, len(height), []
    least, middle = float(gaps.min()), float(np.sort(gaps)[(len(gaps) - 1) // 2])
    base = least if least >= 0.4 * middle else middle
    far = wide = gaps > MISSING_STEP * base
    if thickness is not None and np.ptp(thickness) > 0.1 * base:
        between = (thickness[1:] + thickness[:-1]) / 2
        wide = far & ~(np.abs(between - gaps) <= 0.25 * gaps)  # a part of the stack has thicker slices
    if wide.any():
        first = int(np.argmax(wide))
        raise CaseError(
            "GAP",
            f"the slices are {base:.2f} mm apart, but {gaps[first]:.2f} mm after slice {first + 1}"
            f"{_and_more(int(wide.sum()) - 1)}; find the missing files",
        )
    said = f"slices are {least:.2f} to {gaps.max():.2f} mm apart"
    if strict:
        raise CaseError("NONUNIFORM_SPACING", f"{said}; allow resampling, or reconstruct them evenly")
    count = len(height)
    if far.any():
        step = base
        count = int(np.floor((height[-1] - height[0]) / step + 0.01)) + 1
    message = f"{said}; they were resampled from their true positions to {count} slices {step:.2f} mm apart"
    return step, count, [Finding("NONUNIFORM_SPACING", "warning", message)]


def _and_more(count: int) -> str:
    return f" and in {count} other place{'s' if count > 1 else ''}" if count else ""


@dataclass(frozen=True, eq=False)
class _Sideways:
    """``pixels``: ``(Z, 2)`` columns and rows from the new grid's first pixel; ``origin_mm``: ``(2,)``."""

    pixels: NDArray[np.float64]
    origin_mm: NDArray[np.float64]
    shape: tuple[int, int]
    finding: Finding


def _sideways(
    slices: Slices,
    orientation: NDArray[np.float64],
    spacing_mm: tuple[float, float],
    shape: tuple[int, int],
    strict: bool,
) -> _Sideways | None:
    """How slices leave the normal, or None where they do not."""
    away = (slices.corner - slices.corner[0]) @ orientation.T  # (Z, 2) mm along row, along column
    size = np.array([spacing_mm[1], spacing_mm[0]])
    limit = np.maximum(ASKEW_PIXELS * size, ASKEW_MM)
    if (np.abs(away) <= limit).all():
        return None
    up = slices.height - slices.height[0]
    slope = (up @ away) / (up @ up)
    straight = bool((np.abs(away - up[:, None] * slope) <= 2 * limit).all())
    angle = float(np.degrees(np.arctan(np.hypot(*slope))))
    extent = size * (shape[1], shape[0])
    code = "GANTRY_TILT" if straight else "MIXED_GRID"
    said = (
        f"slices are tilted by {angle:.1f} degrees against their stack"
        if straight
        else f"slices are shifted sideways by up to {np.abs(away).max():.1f} mm, and not evenly"
    )
    sound = angle <= STEEPEST if straight else bool((np.ptp(away, axis=0) <= 0.25 * extent).all())
    if strict or not sound:
        raise CaseError(code, f"{said}; allow resampling, or reconstruct them on a right-angled grid")
    origin = away.min(axis=0)
    pixels = (away - origin) / size
    more = np.ceil(pixels.max(axis=0) - 1e-6).astype(int)
    new = (shape[0] + int(more[1]), shape[1] + int(more[0]))
    message = f"{said}; they were resampled to a right-angled grid of {new[1]} x {new[0]} pixels"
    return _Sideways(pixels, origin, new, Finding(code, "warning", message))
