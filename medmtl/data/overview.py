"""A whole volume, coarser: what case tasks see of volumes that are larger than the patch.

In-plane both axes are made coarser by one factor, the smallest with which the volume fits, so that angles and
proportions stay; the stack's axis has a factor of its own. Nothing is made finer. What is left of the
overview's grid lies outside the field of view and is 0, as in a patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from medmtl.data.spatial import SpatialDraw, patch_grid, sample_image

Triple = tuple[int, int, int]


def fits(shape: Sequence[int], patch: Sequence[int]) -> bool:
    """Whether a volume lies in a patch whole; then the patch is its own overview."""
    return all(size <= limit for size, limit in zip(shape, patch, strict=True))


def coarse_shape(shape: Sequence[int], grid: Sequence[int]) -> Triple:
    """Voxels of a volume once it is coarse enough for an overview's grid."""
    plane = max(1.0, shape[0] / grid[0], shape[1] / grid[1])
    x, y, z = (
        min(limit, max(1, round(size / factor)))
        for size, limit, factor in zip(shape, grid, (plane, plane, max(1.0, shape[2] / grid[2])), strict=True)
    )
    return (x, y, z)


def make_coarse(image: Tensor, grid: Sequence[int]) -> Tensor:
    """Means over the voxels that a coarser one covers: ``(T, C, X, Y, Z)`` -> ``(T, C, *coarse)``.

    Frame by frame, so that a frame does not depend on how many there are.
    """
    shape = [int(size) for size in image.shape[2:]]
    wanted = coarse_shape(shape, grid)
    if list(wanted) == shape:
        return image
    return torch.cat([functional.adaptive_avg_pool3d(frame, wanted) for frame in image.split(1)])


def coarse_mm(
    spacing_mm: Sequence[float],
    shape: Sequence[int],
    coarse: Sequence[int],
    zooms: Sequence[float] = (1.0, 1.0, 1.0),
) -> tuple[float, float, float]:
    """Voxel size of an overview; ``zooms`` says how much larger a sample shows things along each axis."""
    x, y, z = (mm * n / m / zoom for mm, n, m, zoom in zip(spacing_mm, shape, coarse, zooms, strict=True))
    return (x, y, z)


def see_whole(coarse: Tensor, grid: Triple, shape: Sequence[int], draw: SpatialDraw) -> Tensor:
    """A coarse volume ``(F, C, *coarse)`` in the middle of the overview's grid: ``(F, C, *grid)``.

    Training and prediction both come here.

    Args:
        coarse: what `make_coarse` gave.
        grid: voxels of the overview.
        shape: of the volume itself, in whose voxels the spatial change was drawn.
        draw: the change of the sample; the patch of the same sample is changed alike.
    """
    x, y, z = (int(size) for size in coarse.shape[2:])
    plane, stack = x / shape[0], z / shape[2]
    dx, dy, dz = draw.shift
    moved = replace(
        draw,
        shift=(dx * plane, dy * plane, dz * stack),
        slice_shift=draw.slice_shift * plane,
        warp=draw.warp * plane,
        aspect=draw.aspect * plane / stack,
    )
    mx, my, mz = ((g - 1) / 2 - (g - n) // 2 for g, n in zip(grid, (x, y, z), strict=True))
    return sample_image(coarse, patch_grid(moved, (mx, my, mz), grid, (x, y, z), coarse.device))
