"""Is a mask plausible: its parts, and whether the cavity lies inside the wall."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def largest_share(mask: NDArray[np.bool_]) -> float | None:
    """Share of a structure's voxels ``(X, Y, Z)`` that are in its largest part; None where it is empty.

    Voxels that touch by a face, an edge or a corner are neighbours.
    """
    box = _box(mask)
    if box is None:
        return None
    parts, _ = ndimage.label(mask[box], structure=np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    return float(sizes.max() / sizes.sum())


def enclosed_share(cavity: NDArray[np.bool_], wall: NDArray[np.bool_]) -> float | None:
    """Share of the pixels next to the cavity, slice by slice, that are wall; None without a cavity.

    Near the valves the wall is open, so that a right segmentation does not reach 1.

    Args:
        cavity: ``(X, Y, Z)``, the slices along Z.
        wall: likewise.
    """
    box = _box(cavity)
    if box is None:
        return None
    x, y, z = box
    around = (
        slice(max(x.start - 1, 0), x.stop + 1),
        slice(max(y.start - 1, 0), y.stop + 1),
        z,
    )
    inside = cavity[around]
    cross = np.zeros((3, 3, 3), dtype=bool)
    cross[:, 1, 1] = cross[1, :, 1] = True
    rim = ndimage.binary_dilation(inside, structure=cross) & ~inside
    return float(wall[around][rim].mean()) if rim.any() else None


def end_shares(mask: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Area in the first and in the last slice of the stack over the largest area; None where it is empty."""
    areas = np.count_nonzero(mask, axis=(0, 1))
    largest = int(areas.max(initial=0))
    return (float(areas[0] / largest), float(areas[-1] / largest)) if largest else None


def stack_last(mask: NDArray[Any], spacing_mm: Sequence[float]) -> NDArray[Any]:
    """``(T, X, Y, Z)`` with the axis of the thickest voxels last, which is that of the slices."""
    axis = 1 + int(np.argmax(spacing_mm)) if max(spacing_mm) > 1.01 * spacing_mm[2] else 3
    return np.moveaxis(mask, axis, 3)


def shapes_of(
    mask: NDArray[Any], labels: Mapping[str, int], frames: Sequence[int], ring: tuple[str, str] | None
) -> Iterator[tuple[str, str, float]]:
    """What is measured of a shape: (``parts`` or ``enclosed``, structure, share in the worst frame).

    Args:
        mask: ``(T, X, Y, Z)``, slices along Z.
        labels: voxel value of each structure.
        frames: which frames to look at.
        ring: names of wall and cavity, where there are such.
    """
    for name, value in labels.items():
        shares = [share for t in frames if (share := largest_share(mask[t] == value)) is not None]
        if shares:
            yield "parts", name, min(shares)
    if ring is not None:
        wall, cavity = (labels[name] for name in ring)
        found = [enclosed_share(mask[t] == cavity, mask[t] == wall) for t in frames]
        known = [share for share in found if share is not None]
        if known:
            yield "enclosed", ring[1], min(known)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """The smallest box that holds all that is set."""
    spans = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        where = np.flatnonzero(mask.any(axis=others))
        if not where.size:
            return None
        spans.append(slice(int(where[0]), int(where[-1]) + 1))
    return spans[0], spans[1], spans[2]
