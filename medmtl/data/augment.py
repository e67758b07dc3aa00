"""Random changes of a training sample in space: drawn from an explicit generator, and applied apart.

Space is changed once per case by one resampling (crop, rotation, zoom, stretch, mirror, shift and warp in a
single interpolation), the same for all its frames and labels. A zoom changes the *voxel size* that goes
with the sample, not the anatomy, and everything else keeps areas: volumes in mL, and every target that
follows from them, stay true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """How strongly training samples are changed; all zero changes nothing.

    Attributes:
        rotation_degrees: in-plane rotation is uniform in plus or minus this.
        rotation_probability: share of the samples that are rotated at all.
        zoom: in-plane zoom is log-uniform in ``1 / (1 + zoom) .. 1 + zoom``.
        stretch: ratio of the zooms along and across a random in-plane direction is log-uniform in
            ``1 / (1 + stretch) .. 1 + stretch``; areas stay.
        warp_voxels: root mean square of a smooth random in-plane displacement, the same on all slices, that
            keeps areas to first order; with ``probability``.
        shift_voxels: in-plane shift of the patch is uniform in plus or minus this.
        shift_slices: shift along the stack, likewise; a stack that fits the patch stays whole in it.
        slice_shift_voxels: standard deviation of each slice's own in-plane shift, as when breath-holds
            differ; with ``probability``.
        mirror: mirror each in-plane axis with probability 1/2.
        mirror_stack: turn the stack upside down with probability 1/2.
        probability: of the slices' own shifts, the warp, and each of the intensity changes below.
        contrast: intensities are scaled by ``1 +- contrast``.
        brightness: and moved by plus or minus this many standard deviations.
        gamma: exponent is log-uniform in ``1 / (1 + gamma) .. 1 + gamma``.
        inverted_gamma: half of the gamma changes act on the inverted image.
        bias: intensities above the lowest are multiplied by a smooth field, the exponential of a quadratic
            over the patch whose coefficients are uniform in plus or minus this.
        noise: standard deviation of added Gaussian noise, at most.
        blur_voxels: standard deviation of in-plane Gaussian smoothing, at most.
        low_resolution: in-plane resolution is lowered by a factor of at most this; 1 leaves it.
    """

    rotation_degrees: float = 180.0
    rotation_probability: float = 1.0
    zoom: float = 0.25
    stretch: float = 0.0
    warp_voxels: float = 0.0
    shift_voxels: float = 8.0
    shift_slices: float = 1.0
    slice_shift_voxels: float = 0.0
    mirror: bool = True
    mirror_stack: bool = False
    probability: float = 0.2
    contrast: float = 0.3
    brightness: float = 0.2
    gamma: float = 0.5
    inverted_gamma: bool = False
    bias: float = 0.0
    noise: float = 0.15
    blur_voxels: float = 1.0
    low_resolution: float = 1.0


NONE = Augmentation(
    rotation_degrees=0.0, zoom=0.0, shift_voxels=0.0, shift_slices=0.0, mirror=False,
    probability=0.0, contrast=0.0, brightness=0.0, gamma=0.0, noise=0.0, blur_voxels=0.0,
)  # fmt: skip


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
    """

    matrix: tuple[tuple[float, float], tuple[float, float]]
    shift: tuple[float, float, float]
    zoom: float
    flip_stack: bool = False
    slice_shift: float = 0.0
    warp: float = 0.0
    seed: int = 0


def draw_spatial(augmentation: Augmentation, generator: Generator) -> SpatialDraw:
    """Draw one case's spatial change; as many numbers are drawn whatever they are."""
    angle, zoom, dx, dy, dz, mx, my, mz, rotated, along, direction, shifted, warped = torch.rand(
        13, generator=generator
    ).tolist()
    seed = int(torch.randint(2**31, (1,), generator=generator))
    radians = math.radians(augmentation.rotation_degrees) * (2 * angle - 1)
    if rotated >= augmentation.rotation_probability:
        radians = 0.0
    scale = (1 + augmentation.zoom) ** (2 * zoom - 1)
    cos, sin = math.cos(radians) / scale, math.sin(radians) / scale
    flip_x = -1.0 if augmentation.mirror and mx < 0.5 else 1.0
    flip_y = -1.0 if augmentation.mirror and my < 0.5 else 1.0
    matrix = ((flip_x * cos, -flip_y * sin), (flip_x * sin, flip_y * cos))
    if augmentation.stretch > 0:
        matrix = _stretched(matrix, (1 + augmentation.stretch) ** (along - 0.5), math.pi * direction)
    plane, stack = augmentation.shift_voxels, augmentation.shift_slices
    own = augmentation.slice_shift_voxels if shifted < augmentation.probability else 0.0
    warp = augmentation.warp_voxels if warped < augmentation.probability else 0.0
    return SpatialDraw(
        matrix,
        (plane * (2 * dx - 1), plane * (2 * dy - 1), float(round(stack * (2 * dz - 1)))),
        scale,
        augmentation.mirror_stack and mz < 0.5,
        own,
        warp,
        seed if own or warp else 0,
    )


def _stretched(
    matrix: tuple[tuple[float, float], tuple[float, float]], along: float, angle: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The matrix after a stretch by ``along`` in one direction and its inverse across: determinant 1."""
    cos, sin = math.cos(angle), math.sin(angle)
    p, r = along * cos * cos + sin * sin / along, along * sin * sin + cos * cos / along
    q = (along - 1 / along) * cos * sin
    (a, b), (c, d) = matrix
    return ((a * p + b * q, a * q + b * r), (c * p + d * q, c * q + d * r))


def patch_grid(
    draw: SpatialDraw,
    centre: tuple[float, float, float],
    patch: tuple[int, int, int],
    shape: tuple[int, int, int],
    device: torch.device | None = None,
) -> Tensor:
    """Sampling grid ``(1, X, Y, Z, 3)`` of a patch in a source of ``shape``, in grid_sample's coordinates.

    Slices are met exactly (never interpolated): the stack axis is shifted by whole slices only. A stack that
    fits the patch is always seen whole. In-plane the centre moves (by half a voxel at most) to where an
    unchanged patch lies on whole voxels, so that without rotation, zoom and shift nothing is interpolated.
    """
    centre_x, centre_y = (
        round(c - (p - 1) / 2) + (p - 1) / 2 for c, p in zip(centre[:2], patch[:2], strict=True)
    )
    x, y = (torch.arange(p, dtype=torch.float32, device=device) - (p - 1) / 2 for p in patch[:2])
    room = shape[2] - patch[2]
    wanted = -((-room) // 2) if room <= 0 else round(centre[2] - (patch[2] - 1) / 2)
    first = min(max(wanted + round(draw.shift[2]), min(room, 0)), max(room, 0))
    source_z = torch.arange(patch[2], dtype=torch.float32, device=device) + first
    (a, b), (c, d) = draw.matrix
    plane_x = centre_x + draw.shift[0] + a * x[:, None] + b * y[None, :]
    plane_y = centre_y + draw.shift[1] + c * x[:, None] + d * y[None, :]
    generator = torch.Generator().manual_seed(draw.seed)
    if draw.warp:
        moved_x, moved_y = _area_preserving(draw.warp, patch[:2], generator)
        plane_x, plane_y = plane_x + moved_x.to(plane_x.device), plane_y + moved_y.to(plane_y.device)
    source_x, source_y = plane_x[:, :, None], plane_y[:, :, None]
    if draw.slice_shift:
        own = draw.slice_shift * torch.randn(2, patch[2], generator=generator).to(source_x.device)
        source_x, source_y = source_x + own[0], source_y + own[1]
    grid = torch.empty((1, *patch, 3), device=device)
    grid[0, ..., 2] = _normalized(source_x, shape[0])
    grid[0, ..., 1] = _normalized(source_y, shape[1])
    grid[0, ..., 0] = _normalized(source_z.flip(0) if draw.flip_stack else source_z, shape[2])
    return grid


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
