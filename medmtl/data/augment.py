"""Random changes of a training sample: parameters are drawn from an explicit generator, and applied apart.

Space is changed once per case by one affine resampling (crop, rotation, zoom, mirror, shift in a single
interpolation), the same for all its frames and labels. A zoom changes the *voxel size* that goes with the
sample, not the anatomy: volumes in mL, and every target that follows from them, stay true.
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
        zoom: in-plane zoom is log-uniform in ``1 / (1 + zoom) .. 1 + zoom``.
        shift_voxels: in-plane shift of the patch is uniform in plus or minus this.
        shift_slices: shift along the stack, likewise; a stack that fits the patch stays whole in it.
        mirror: mirror each in-plane axis with probability 1/2.
        probability: of each of the intensity changes below.
        contrast: intensities are scaled by ``1 +- contrast``.
        brightness: and moved by plus or minus this many standard deviations.
        gamma: exponent is log-uniform in ``1 / (1 + gamma) .. 1 + gamma``.
        noise: standard deviation of added Gaussian noise, at most.
        blur_voxels: standard deviation of in-plane Gaussian smoothing, at most.
    """

    rotation_degrees: float = 180.0
    zoom: float = 0.25
    shift_voxels: float = 8.0
    shift_slices: float = 1.0
    mirror: bool = True
    probability: float = 0.2
    contrast: float = 0.3
    brightness: float = 0.2
    gamma: float = 0.5
    noise: float = 0.15
    blur_voxels: float = 1.0


NONE = Augmentation(0.0, 0.0, 0.0, 0.0, False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class SpatialDraw:
    """One case's spatial change.

    Attributes:
        matrix: 2 x 2 in-plane matrix from patch offsets to source offsets, in voxels.
        shift: voxels added to the patch's centre.
        zoom: how much larger the organ looks; the sample's in-plane voxel size is the source's over this.
    """

    matrix: tuple[tuple[float, float], tuple[float, float]]
    shift: tuple[float, float, float]
    zoom: float


def draw_spatial(augmentation: Augmentation, generator: Generator) -> SpatialDraw:
    """Draw one case's spatial change."""
    angle, zoom, dx, dy, dz, mx, my = torch.rand(7, generator=generator).tolist()
    radians = math.radians(augmentation.rotation_degrees) * (2 * angle - 1)
    scale = (1 + augmentation.zoom) ** (2 * zoom - 1)
    cos, sin = math.cos(radians) / scale, math.sin(radians) / scale
    flip_x = -1.0 if augmentation.mirror and mx < 0.5 else 1.0
    flip_y = -1.0 if augmentation.mirror and my < 0.5 else 1.0
    matrix = ((flip_x * cos, -flip_y * sin), (flip_x * sin, flip_y * cos))
    plane, stack = augmentation.shift_voxels, augmentation.shift_slices
    shift = (plane * (2 * dx - 1), plane * (2 * dy - 1), float(round(stack * (2 * dz - 1))))
    return SpatialDraw(matrix, shift, scale)


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
    source_x = centre_x + draw.shift[0] + a * x[:, None] + b * y[None, :]
    source_y = centre_y + draw.shift[1] + c * x[:, None] + d * y[None, :]
    grid = torch.empty((1, *patch, 3), device=device)
    grid[0, ..., 2] = _normalized(source_x, shape[0])[:, :, None]
    grid[0, ..., 1] = _normalized(source_y, shape[1])[:, :, None]
    grid[0, ..., 0] = _normalized(source_z, shape[2])[None, None, :]
    return grid


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


def change_intensity(image: Tensor, augmentation: Augmentation, generator: Generator) -> Tensor:
    """Change contrast, brightness, gamma, blur and noise of a case ``(T, C, X, Y, Z)``, all frames alike."""
    draws = torch.rand(10, generator=generator).tolist()
    chosen = [d < augmentation.probability for d in draws[:5]]
    signed = [2 * d - 1 for d in draws[5:]]
    if chosen[0] and augmentation.blur_voxels > 0:
        image = _blur_in_plane(image, abs(signed[0]) * augmentation.blur_voxels)
    if chosen[1]:
        image = image * (1 + augmentation.contrast * signed[1])
    if chosen[2]:
        image = image + augmentation.brightness * signed[2]
    if chosen[3] and augmentation.gamma > 0:
        image = _gamma(image, (1 + augmentation.gamma) ** signed[3])
    if chosen[4]:
        sigma_noise = augmentation.noise * abs(signed[4])
        seed = int(torch.randint(2**31, (1,), generator=generator))
        local = torch.Generator(image.device).manual_seed(seed)
        image = image + sigma_noise * torch.randn(image.shape, generator=local, device=image.device)
    return image


def _gamma(image: Tensor, exponent: float) -> Tensor:
    """Raise intensities, scaled to 0..1, to a power; mean and standard deviation stay as they were.

    Plain torch, not MONAI's transform: that one waits for the GPU and returns a MetaTensor.
    """
    low = image.amin()
    span = (image.amax() - low).clamp_min(1e-6)
    bent = ((image - low) / span) ** exponent
    return (bent - bent.mean()) / bent.std().clamp_min(1e-6) * image.std() + image.mean()


def _blur_in_plane(image: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of every slice of ``(T, C, X, Y, Z)`` along x and y."""
    if sigma < 0.1:
        return image
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = (-(offsets**2) / (2 * sigma**2)).exp()
    kernel = kernel / kernel.sum()
    flat = functional.pad(
        image.flatten(0, 1)[:, None], (0, 0, radius, radius, radius, radius), mode="replicate"
    )
    flat = functional.conv3d(flat, kernel[None, None, :, None, None])
    return functional.conv3d(flat, kernel[None, None, None, :, None]).reshape(image.shape)
