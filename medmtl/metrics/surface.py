"""Distances between the surfaces of two masks, in mm.

The surface of a mask is its voxels with a face neighbour outside it; what lies beyond the array is outside.
Distances run between voxel centres. These are MONAI's and Metrics Reloaded's conventions; a mesh gives other
numbers on anisotropic grids (Podobnik and Vrtovec 2024, "Understanding implementation pitfalls of
distance-based metrics").
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from medmtl.metrics._masks import BoolArray, mask_pair

FloatArray = NDArray[np.float64]


def hausdorff(
    prediction: ArrayLike, truth: ArrayLike, spacing_mm: Sequence[float], percentile: float = 95
) -> float:
    """Hausdorff distance: the larger of the two directed percentiles of surface distance.

    Args:
        prediction: boolean mask of D dimensions.
        truth: boolean mask of the same shape.
        spacing_mm: D voxel sizes in mm.
        percentile: 95 for HD95, 100 for the maximum; linear interpolation between ranks.

    Returns:
        Distance in mm. Both masks empty gives ``nan`` (nothing to measure). One empty gives ``inf``: no
        distance is large enough. A mean needs a finite number there, and leaving the case out would hide the
        failure; :mod:`medmtl.evaluation` puts the diagonal of the image, the worst distance that the image
        allows.

    Raises:
        ValueError: shapes differ, an array is not a mask, or spacing or percentile make no sense.

    Source: Huttenlocher et al., IEEE PAMI 1993; Maier-Hein et al., Nature Methods 2024 ("Metrics Reloaded":
    the worst possible value stands for a missing one).

    >>> hausdorff([[True, False, False]], [[False, False, True]], spacing_mm=(1.5, 8.0))
    16.0
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile must be above 0 and at most 100, found {percentile}")
    distances = _surface_distances(prediction, truth, spacing_mm)
    if distances is None:
        return math.nan
    if not all(len(part) for part in distances):
        return math.inf
    return max(float(np.percentile(part, percentile)) for part in distances)


def surface_dice(
    prediction: ArrayLike, truth: ArrayLike, spacing_mm: Sequence[float], tolerance_mm: float
) -> float:
    """Share of both surfaces that lies within a tolerance of the other one (normalized surface distance).

    Args:
        prediction: boolean mask of D dimensions.
        truth: boolean mask of the same shape.
        spacing_mm: D voxel sizes in mm.
        tolerance_mm: largest distance that still counts as agreement, in mm.

    Returns:
        0 to 1; both masks empty gives ``nan``, one empty 0. Every surface voxel counts once, whatever its
        face area.

    Raises:
        ValueError: shapes differ, an array is not a mask, or spacing or tolerance make no sense.

    Source: Nikolov et al., JMIR 2021, with voxels in place of surface elements as in Metrics Reloaded.
    """
    if not (tolerance_mm >= 0 and math.isfinite(tolerance_mm)):
        raise ValueError(f"tolerance_mm must be finite and not negative, found {tolerance_mm}")
    distances = _surface_distances(prediction, truth, spacing_mm)
    if distances is None:
        return math.nan
    together = np.concatenate(distances)
    if not all(len(part) for part in distances):
        return 0.0
    return float(np.count_nonzero(together <= tolerance_mm) / len(together))


def _surface_distances(
    prediction: ArrayLike, truth: ArrayLike, spacing_mm: Sequence[float]
) -> tuple[FloatArray, FloatArray] | None:
    """Distances in mm from each surface's voxels to the other surface; None when both masks are empty.

    Where just one mask is empty both arrays are empty too.
    """
    predicted, true = mask_pair(prediction, truth)
    spacing = tuple(float(size) for size in spacing_mm)
    if len(spacing) != predicted.ndim or not all(size > 0 and math.isfinite(size) for size in spacing):
        raise ValueError(
            f"spacing_mm must be {predicted.ndim} positive numbers in mm, found {tuple(spacing_mm)}"
        )
    box = _bounding_box(predicted | true)
    if box is None:
        return None
    predicted_surface, true_surface = _surface(predicted[box]), _surface(true[box])
    if not (predicted_surface.any() and true_surface.any()):
        return np.empty(0), np.empty(0)
    return (
        _distance_to(true_surface, spacing)[predicted_surface],
        _distance_to(predicted_surface, spacing)[true_surface],
    )


def _bounding_box(mask: BoolArray) -> tuple[slice, ...] | None:
    """Smallest box around a mask; nothing outside it can be a surface, so cropping changes no distance."""
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(used):
            return None
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)


def _surface(mask: BoolArray) -> BoolArray:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _distance_to(surface: BoolArray, spacing: tuple[float, ...]) -> FloatArray:
    return np.asarray(ndimage.distance_transform_edt(~surface, sampling=spacing), dtype=np.float64)
