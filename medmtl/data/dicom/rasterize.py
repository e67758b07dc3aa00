"""Polygons on a voxel grid.

The rule: a voxel belongs to a region when its centre lies inside the outline, by the even-odd rule, so a
closed outline inside another is a hole, and an outline that runs in and out along a keyhole is too.
Coordinates count voxels, and the centre of voxel ``(i, j)`` is ``(i, j)``. A centre on the outline itself is
inside where the region goes on towards larger coordinates, so that regions with a common border never share a
voxel and leave none out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def fill(polygons: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Voxels whose centre is inside an odd number of polygons.

    Args:
        polygons: each ``(N, 2)`` points (x, y) in voxels, closed from the last to the first; what lies
            outside the grid is cut off.
        shape: ``(X, Y)`` of the grid.

    Returns:
        ``(X, Y)`` boolean.
    """
    n_x, n_y = shape
    toggles = np.zeros(n_y * (n_x + 1), dtype=np.int64)
    for points in polygons:
        rows, crossings = _crossings(np.asarray(points, dtype=np.float64), n_y)
        first_inside = np.clip(np.ceil(crossings), 0, n_x).astype(np.int64)
        toggles += np.bincount(rows * (n_x + 1) + first_inside, minlength=toggles.size)
    inside = np.cumsum(toggles.reshape(n_y, n_x + 1)[:, :n_x], axis=1) % 2 == 1
    return np.ascontiguousarray(inside.T)


def area(points: NDArray[np.float64]) -> float:
    """Area inside a polygon ``(N, 2)`` that does not cross itself, in the square of its unit."""
    x, y = np.asarray(points, dtype=np.float64).T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def _crossings(points: NDArray[np.float64], n_y: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where a closed polygon crosses the rows of centres: row numbers and x, one entry per crossing.

    An edge owns the rows from its lower end, included, to its upper end, excluded: every vertex that the
    outline passes counts once, a peak twice or not at all, and an edge along a row never.
    """
    start, end = points, np.roll(points, -1, axis=0)
    swap = start[:, 1] > end[:, 1]
    low, high = np.where(swap[:, None], end, start), np.where(swap[:, None], start, end)
    first = np.clip(np.ceil(low[:, 1]), 0, n_y).astype(np.int64)
    count = np.clip(np.ceil(high[:, 1]), 0, n_y).astype(np.int64) - first
    edge = np.repeat(np.arange(len(points)), count)
    rows = first[edge] + np.arange(edge.size) - np.repeat(np.cumsum(count) - count, count)
    share = (rows - low[edge, 1]) / (high[edge, 1] - low[edge, 1])
    return rows, low[edge, 0] + share * (high[edge, 0] - low[edge, 0])
