"""How strongly training samples are changed, and one sample's change in space, drawn from a generator.

A zoom changes the *voxel size* that goes with the sample, not the anatomy, and everything else keeps areas or
volumes: volumes in mL, and every target that follows from them, stay true.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator

from medmtl.data.spatial import SpatialDraw

AlongStack = Literal["auto", "never", "always"]
THICK = 3.0
"""Slices that lie more than this many times further apart than voxels are wide are a stack of thick slices,
along which nothing is interpolated (nnU-Net's line)."""
MOST_TILT = 30.0


def is_thin(spacing_mm: Sequence[float]) -> bool:
    """Whether slices lie close enough together that tissue between them may be interpolated."""
    return spacing_mm[2] <= THICK * min(spacing_mm[:2])


@dataclass(frozen=True)
class Augmentation:
    """How strongly training samples are changed; all zero changes nothing.

    Attributes:
        rotation_degrees: in-plane rotation is uniform in plus or minus this.
        rotation_probability: share of the samples that are rotated at all.
        zoom: zoom, in-plane or along all axes, is log-uniform in ``1 / (1 + zoom) .. 1 + zoom``.
        stretch: ratio of the zooms along and across a random in-plane direction is log-uniform in
            ``1 / (1 + stretch) .. 1 + stretch``; areas stay.
        warp_voxels: root mean square of a smooth random displacement, in-plane and the same on all slices or
            in space, that keeps areas or volumes to first order; with ``probability``.
        shift_voxels: in-plane shift of the patch is uniform in plus or minus this.
        shift_slices: shift along the stack, likewise; a stack that fits the patch stays whole in it.
        slice_shift_voxels: standard deviation of each slice's own in-plane shift, as when breath-holds
            differ; with ``probability``.
        mirror: mirror each in-plane axis with probability 1/2.
        mirror_stack: turn the stack upside down with probability 1/2.
        along_stack: whether volumes turn about all axes, and zoom, warp, blur and low resolution act along
            the stack too; ``auto``: where slices are thin, see `is_thin`. Else no slice is interpolated.
        tilt_degrees: rotation about both in-plane axes, where the stack takes part, is uniform in plus or
            minus this; None: as in-plane, at most 30.
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
    along_stack: AlongStack = "auto"
    tilt_degrees: float | None = None
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


def draw_spatial(
    augmentation: Augmentation, generator: Generator, spacing_mm: Sequence[float] | None = None
) -> SpatialDraw:
    """Draw one case's spatial change; as many numbers are drawn whatever they are.

    Args:
        augmentation: how strongly.
        generator: on the CPU.
        spacing_mm: of the case; None says nothing, and its slices do not count as thin.
    """
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
    deep, tilt, aspect = False, (0.0, 0.0), 1.0
    if spacing_mm is not None:
        aspect = 2 * spacing_mm[2] / (spacing_mm[0] + spacing_mm[1])
        thin = augmentation.along_stack == "auto" and is_thin(spacing_mm)
        deep = thin or augmentation.along_stack == "always"
    if deep and rotated < augmentation.rotation_probability:
        tilt = _tilt(augmentation, seed)
    return SpatialDraw(
        matrix,
        (plane * (2 * dx - 1), plane * (2 * dy - 1), float(round(stack * (2 * dz - 1)))),
        scale,
        augmentation.mirror_stack and mz < 0.5,
        own,
        warp,
        seed if own or warp else 0,
        deep,
        tilt,
        aspect,
    )


def _tilt(augmentation: Augmentation, seed: int) -> tuple[float, float]:
    """Radians about both in-plane axes, from a generator of their own."""
    most = augmentation.tilt_degrees
    if most is None:
        most = min(augmentation.rotation_degrees, MOST_TILT)
    one, other = torch.rand(2, generator=torch.Generator().manual_seed(seed + 1)).tolist()
    return math.radians(most) * (2 * one - 1), math.radians(most) * (2 * other - 1)


def _stretched(
    matrix: tuple[tuple[float, float], tuple[float, float]], along: float, angle: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The matrix after a stretch by ``along`` in one direction and its inverse across: determinant 1."""
    cos, sin = math.cos(angle), math.sin(angle)
    p, r = along * cos * cos + sin * sin / along, along * sin * sin + cos * cos / along
    q = (along - 1 / along) * cos * sin
    (a, b), (c, d) = matrix
    return ((a * p + b * q, a * q + b * r), (c * p + d * q, c * q + d * r))
