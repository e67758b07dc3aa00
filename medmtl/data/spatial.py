"""A patch's change in space: crop, rotation, zoom, stretch, mirror, shift and warp in a single interpolation.

It is the same for all frames and labels of a case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional


@dataclass(frozen=True)
class SpatialDraw:
    """One case's spatial change.

    Attributes:
        matrix: 2 x 2 in-plane matrix from patch offsets to source offsets, in voxels.
        shift: voxels added to the patch's centre.
        zoom: how much larger the organ looks; the sample's in-plane voxel size is the source's over this.
        flip_stack: the stack is upside down.
        slice_shift: standard deviation in voxels of each slice's own shift; 0 for none.
        warp: root mean square in voxels of the in-plane displacement; 0 for none.
        seed: of the slices' shifts and the displacement.
        deep: whether zoom and warp act along the stack too.
        tilt: radians about the two in-plane axes.
        aspect: length of a voxel over its width; used where the stack takes part.
    """

    matrix: tuple[tuple[float, float], tuple[float, float]]
    shift: tuple[float, float, float]
    zoom: float
    flip_stack: bool = False
    slice_shift: float = 0.0
    warp: float = 0.0
    seed: int = 0
    deep: bool = False
    tilt: tuple[float, float] = (0.0, 0.0)
    aspect: float = 1.0

    @property
    def zooms(self) -> tuple[float, float, float]:
        """How much larger things look along each axis."""
        return (self.zoom, self.zoom, self.zoom if self.deep else 1.0)


def patch_grid(
    draw: SpatialDraw,
    centre: tuple[float, float, float],
    patch: tuple[int, int, int],
    shape: tuple[int, int, int],
    device: torch.device | None = None,
) -> Tensor:
    """Sampling grid ``(1, X, Y, Z, 3)`` of a patch in a source of ``shape``, in grid_sample's coordinates.

    Unless the stack takes part, slices are met exactly (never interpolated): the stack axis is shifted by
    whole slices only. A stack that fits the patch is then always seen whole. In-plane the centre moves (by
    half a voxel at most) to where an unchanged patch lies on whole voxels, so that without rotation, zoom and
    shift nothing is interpolated.
    """
    centre_x, centre_y = (
        round(c - (p - 1) / 2) + (p - 1) / 2 for c, p in zip(centre[:2], patch[:2], strict=True)
    )
    x, y, z = (torch.arange(p, dtype=torch.float32, device=device) - (p - 1) / 2 for p in patch)
    room = shape[2] - patch[2]
    wanted = -((-room) // 2) if room <= 0 else round(centre[2] - (patch[2] - 1) / 2)
    first = min(max(wanted + round(draw.shift[2]), min(room, 0)), max(room, 0))
    (a, b), (c, d) = draw.matrix
    right = (a * x[:, None] + b * y[None, :])[:, :, None]
    ahead = (c * x[:, None] + d * y[None, :])[:, :, None]
    up = z.flip(0) if draw.flip_stack else z
    generator = torch.Generator().manual_seed(draw.seed)
    if draw.deep:
        up = up / draw.zoom
    if draw.deep and (draw.warp or any(draw.tilt)):
        right, ahead, up = _turned(draw, right, ahead, up, patch, generator)
    elif draw.warp:
        moved_x, moved_y = _area_preserving(draw.warp, patch[:2], generator)
        right, ahead = right + moved_x.to(x.device)[:, :, None], ahead + moved_y.to(x.device)[:, :, None]
    source_x, source_y = centre_x + draw.shift[0] + right, centre_y + draw.shift[1] + ahead
    if draw.slice_shift:
        own = draw.slice_shift * torch.randn(2, patch[2], generator=generator).to(source_x.device)
        source_x, source_y = source_x + own[0], source_y + own[1]
    grid = torch.empty((1, *patch, 3), device=device)
    grid[0, ..., 2] = _normalized(source_x, shape[0])
    grid[0, ..., 1] = _normalized(source_y, shape[1])
    grid[0, ..., 0] = _normalized(first + (patch[2] - 1) / 2 + up, shape[2])
    return grid


def _turned(
    draw: SpatialDraw, x: Tensor, y: Tensor, z: Tensor, patch: Sequence[int], generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets ``(X, Y, Z)`` from the centre, in voxels, after warp and tilt; angles are those in space."""
    offsets = [*torch.broadcast_tensors(x, y, draw.aspect * z)]
    if draw.warp:
        moved = _volume_preserving(draw.warp, patch, draw.aspect, generator).to(x.device)
        offsets = [one + other for one, other in zip(offsets, moved, strict=True)]
    right, ahead, up = offsets
    (sin, cos), (sin_other, cos_other) = ((math.sin(angle), math.cos(angle)) for angle in draw.tilt)
    ahead, up = cos * ahead - sin * up, sin * ahead + cos * up
    right, up = cos_other * right + sin_other * up, cos_other * up - sin_other * right
    return right, ahead, up / draw.aspect


def _area_preserving(size: float, plane: tuple[int, int], generator: Generator) -> tuple[Tensor, Tensor]:
    """Smooth displacements ``(X, Y)`` along x and y of root mean square ``size``, without divergence.

    They are the turned gradient of a random surface, so that to first order no area changes.
    """
    corners = torch.randn((1, 1, 5, 5), generator=generator)
    surface = functional.interpolate(corners, size=plane, mode="bicubic", align_corners=True)[0, 0]
    along_x, along_y = torch.gradient(surface)
    moved = torch.stack([along_y, -along_x])
    moved = moved * (size / moved.square().sum(0).mean().sqrt().clamp_min(1e-6))
    return moved[0], moved[1]


def _volume_preserving(size: float, patch: Sequence[int], aspect: float, generator: Generator) -> Tensor:
    """Smooth displacements ``(3, X, Y, Z)`` of root mean square ``size``, in widths of a voxel.

    They are the curl of a random field, so that to first order no volume changes.
    """
    x, y, z = (max(2, n) for n in patch)  # a single slice has no slope
    corners = torch.randn((3, 5, 5, 5), generator=generator)
    plane = functional.interpolate(
        corners.permute(0, 3, 1, 2), size=(x, y), mode="bicubic", align_corners=True
    )
    along = plane.permute(0, 2, 3, 1).reshape(1, 3, x * y, 5)
    field = functional.interpolate(along, size=(x * y, z), mode="bicubic", align_corners=True)
    by_x, by_y, by_z = torch.gradient(field.reshape(3, x, y, z), dim=(1, 2, 3))
    by_z = by_z / aspect
    moved = torch.stack([by_y[2] - by_z[1], by_z[0] - by_x[2], by_x[1] - by_y[0]])
    moved = moved[:, : patch[0], : patch[1], : patch[2]]
    return moved * (size / moved.square().sum(0).mean().sqrt().clamp_min(1e-6))


def _normalized(index: Tensor, size: int) -> Tensor:
    """Voxel index to grid_sample's -1..1, corners at voxel edges so that a single slice works too."""
    return (2 * index + 1) / size - 1


def sample_image(image: Tensor, grid: Tensor) -> Tensor:
    """Sample ``(T, C, X, Y, Z)`` linearly: ``(T, C, *patch)``, 0 (the mean) outside the field of view."""
    t, c = image.shape[:2]
    flat = image.reshape(1, t * c, *image.shape[2:])
    out = functional.grid_sample(flat, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return out.reshape(t, c, *grid.shape[1:4])


def sample_mask(mask: Tensor, grid: Tensor) -> Tensor:
    """Sample ``(T, X, Y, Z)`` labels at the nearest voxel: ``(T, *patch)`` int64; outside is background."""
    moved = functional.grid_sample(
        mask[None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return moved[0].long()


def sample_map(values: Tensor, grid: Tensor) -> Tensor:
    """Sample ``(T, X, Y, Z)`` real values: ``(T, *patch)``, NaN where it or a neighbour is unlabelled."""
    known = torch.isfinite(values)
    stacked = torch.stack([torch.where(known, values, 0.0), known.float()])
    flat = stacked.reshape(1, -1, *values.shape[1:])
    moved = functional.grid_sample(flat, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    total, share = moved.reshape(2, len(values), *grid.shape[1:4])
    return torch.where(share > 0.99, total / share.clamp_min(1e-6), torch.nan)
