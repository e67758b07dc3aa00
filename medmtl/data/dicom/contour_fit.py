"""Whether contours belong to the images that they are laid on.

Blood is brighter than the myocardium around it on cine images, so brightness drops across a border that was
drawn on this image, and drops less where the same contours are pushed aside. `border_fit` is that drop in
place over the largest drop anywhere within 24 mm. The two limits are held against ACDC's masks in the tests
on real data:
every patient's own reach the upper one, nine in ten on another patient's images stay below the lower one.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

FITS = 0.9
"""From here on contours belong to their images."""

DOUBTFUL = 0.8
"""Below this, contours are another patient's, or of other slices."""

_REACH_MM = 24.0
_STEP_MM = 3.0
_AWAY_MM = 2.5  # from the border, inwards and outwards, where brightness is compared
_POINTS = 120  # of an outline; more make it slower and nothing else


def border_fit(
    drawn: Iterable[tuple[NDArray[np.generic], NDArray[np.float64]]], spacing_mm: tuple[float, float]
) -> float | None:
    """How well inner contours sit where they are.

    Args:
        drawn: image ``(X, Y)`` and outline ``(N, 2)`` in its voxels, for each contour.
        spacing_mm: voxel size along x and y.

    Returns:
        drop of brightness in place over that at the best of all places within 24 mm, at most 1; None without
        contours or where no place shows any.
    """
    count = round(_REACH_MM / _STEP_MM)
    steps = np.arange(-count, count + 1) * _STEP_MM
    shifts = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2) / spacing_mm
    drops = [_drops(image, outline, shifts, spacing_mm) for image, outline in drawn]
    if not drops:
        return None
    mean = np.mean(drops, axis=0)
    best = float(mean.max())
    return float(mean[len(shifts) // 2]) / best if best > 0 else None


def _drops(
    image: NDArray[np.generic],
    outline: NDArray[np.float64],
    shifts: NDArray[np.float64],
    spacing_mm: tuple[float, float],
) -> NDArray[np.float64]:
    """Mean drop of brightness across an outline moved by each shift, in units of the image's range."""
    from scipy.ndimage import map_coordinates

    inner, outer = _either_side(outline, spacing_mm)
    pixels = np.asarray(image, dtype=np.float32)

    def brightness(points: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = (points[None] + shifts[:, None]).reshape(-1, 2).T
        found: NDArray[np.float64] = map_coordinates(pixels, moved, order=1, mode="nearest")
        return found.reshape(len(shifts), -1).mean(axis=1)

    low, high = np.percentile(pixels, (1, 99))
    drop: NDArray[np.float64] = (brightness(inner) - brightness(outer)) / max(float(high - low), 1e-9)
    return drop


def _either_side(
    outline: NDArray[np.float64], spacing_mm: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points just inside and just outside an outline, evenly along it, in voxels."""
    spacing = np.array(spacing_mm)
    closed = np.vstack([outline, outline[:1]]) * spacing
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    at = np.arange(_POINTS) * lengths[-1] / _POINTS
    points = np.column_stack([np.interp(at, lengths, closed[:, axis]) for axis in (0, 1)])
    tangent = np.roll(points, -2, axis=0) - np.roll(points, 2, axis=0)
    normal = np.column_stack([tangent[:, 1], -tangent[:, 0]])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    if float(((points - points.mean(axis=0)) * normal).sum()) < 0:
        normal = -normal
    return (points - _AWAY_MM * normal) / spacing, (points + _AWAY_MM * normal) / spacing
