"""Thin slices: the volume turns, zooms and bends along the stack too, and volumes in mL stay true."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from medmtl.data.augment import NONE, Augmentation, draw_spatial, is_thin
from medmtl.data.intensity import change_intensity
from medmtl.data.spatial import SpatialDraw, patch_grid, sample_image, sample_mask

SHAPE = (48, 48, 32)
MIDDLE = (23.5, 23.5, 15.5)
THIN_MM = (1.0, 1.0, 1.5)
STILL = ((1.0, 0.0), (0.0, 1.0))


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def ball(radius_mm: float) -> Tensor:
    """Around the middle of a volume of thin slices."""
    axes = ((torch.arange(n) - (n - 1) / 2) * mm for n, mm in zip(SHAPE, THIN_MM, strict=True))
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    return (x**2 + y**2 + z**2 < radius_mm**2).to(torch.uint8)[None]


def offsets_mm(grid: Tensor) -> Tensor:
    """Where a grid of a volume of thin slices looks, from the middle: ``(X, Y, Z, 3)``."""
    sizes, mm = torch.tensor(SHAPE[::-1]), torch.tensor(THIN_MM[::-1])
    voxels = ((grid[0] + 1) * sizes - 1) / 2 - (sizes - 1) / 2
    return (voxels * mm).flip(-1)


@pytest.mark.parametrize(
    ("spacing_mm", "thin"),
    [((1.0, 1.0, 1.0), True), ((1.5, 1.5, 4.5), True), ((1.5, 1.5, 5.0), False), ((4.0, 4.0, 2.0), True)],
)
def test_only_thin_slices_are_interpolated_unless_told_so(
    spacing_mm: tuple[float, float, float], thin: bool
) -> None:
    assert is_thin(spacing_mm) == thin
    assert draw_spatial(Augmentation(), generator(), spacing_mm).deep == thin
    assert draw_spatial(replace(Augmentation(), along_stack="always"), generator(), spacing_mm).deep
    never = draw_spatial(replace(Augmentation(), along_stack="never"), generator(), spacing_mm)
    assert (never.deep, never.tilt, never.zooms[2]) == (False, (0.0, 0.0), 1.0)


def test_nothing_to_change_cuts_exact_voxels_out_of_thin_slices_too() -> None:
    image = torch.randn(1, 1, *SHAPE, generator=generator(3))
    grid = patch_grid(draw_spatial(NONE, generator(), THIN_MM), MIDDLE, (16, 16, 8), SHAPE)
    assert torch.equal(sample_image(image, grid)[0, 0], image[0, 0, 16:32, 16:32, 12:20])


@pytest.mark.parametrize("axis", [0, 1])
def test_a_tilt_is_a_rotation_in_space(axis: int) -> None:
    """About x, what lay along y lies along y cos + z sin; in millimetres, not in voxels."""
    angle = math.radians(20)
    tilt = (angle, 0.0) if axis == 0 else (0.0, angle)
    draw = SpatialDraw(STILL, (0.0, 0.0, 0.0), 1.0, deep=True, tilt=tilt, aspect=1.5)
    before = offsets_mm(patch_grid(replace(draw, tilt=(0.0, 0.0)), MIDDLE, (16, 16, 8), SHAPE))
    after = offsets_mm(patch_grid(draw, MIDDLE, (16, 16, 8), SHAPE))
    cos, sin = math.cos(angle), math.sin(angle)
    about_x = torch.tensor([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    about_y = torch.tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    expected = before @ (about_x if axis == 0 else about_y).T
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_turned_and_zoomed_a_ball_keeps_its_volume_in_ml(seed: int) -> None:
    mask = ball(14)
    strong = replace(NONE, rotation_degrees=180, zoom=0.25, mirror=True)
    draw = draw_spatial(strong, generator(seed), THIN_MM)
    grid = patch_grid(draw, MIDDLE, (64, 64, 44), SHAPE)
    after = int((sample_mask(mask, grid) == 1).sum()) / math.prod(draw.zooms)
    assert draw.zooms[2] == draw.zoom
    assert any(draw.tilt)
    assert max(map(abs, draw.tilt)) <= math.radians(30)
    assert after / int(mask.sum()) == pytest.approx(1, abs=0.03)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_a_warp_keeps_a_balls_volume_within_three_percent(seed: int) -> None:
    mask = ball(14)
    draw = draw_spatial(replace(NONE, warp_voxels=1.0, probability=1.0), generator(seed), THIN_MM)
    found = sample_mask(mask, patch_grid(draw, MIDDLE, SHAPE, SHAPE))
    assert not torch.equal(found[0], mask[0].long())
    assert int(found.sum()) / int(mask.sum()) == pytest.approx(1, abs=0.03)


def test_a_warp_bends_slices_by_the_size_that_was_asked_for() -> None:
    draw = draw_spatial(replace(NONE, warp_voxels=2.0, probability=1.0), generator(1), THIN_MM)
    still = patch_grid(replace(draw, warp=0.0), MIDDLE, SHAPE, SHAPE)
    moved = offsets_mm(patch_grid(draw, MIDDLE, SHAPE, SHAPE)) - offsets_mm(still)
    assert float(moved.square().sum(-1).mean().sqrt()) == pytest.approx(2.0, rel=0.01)
    assert float(moved[..., 2].std()) > 0.3
    # to first order no volume changes: the divergence is far below the derivatives that it is made of
    inner = [torch.gradient(moved[..., i], dim=i)[0] / mm for i, mm in enumerate(THIN_MM)]
    parts = torch.stack(inner)[:, 4:-4, 4:-4, 4:-4]
    assert float(parts.sum(0).square().mean().sqrt()) < 0.05 * float(parts.square().sum(0).mean().sqrt())


@pytest.mark.parametrize("option", [{"blur_voxels": 2.0}, {"low_resolution": 4.0}])
def test_blur_and_resolution_act_along_the_stack_of_thin_slices_alone(option: dict[str, float]) -> None:
    """An image of slices, each of one grey: in-plane there is nothing to smooth."""
    image = torch.randn(1, 1, 1, 1, 24, generator=generator(5)).expand(1, 1, 16, 16, 24).contiguous()
    strong = replace(NONE, probability=1.0, **option)
    within = change_intensity(image, strong, generator(6))
    along = change_intensity(image, strong, generator(6), 1.0)
    less = change_intensity(image, strong, generator(6), 2.0)
    torch.testing.assert_close(within, image)

    def rough(volume: Tensor) -> float:
        return float(volume.diff(dim=-1).square().mean())

    assert rough(along) < rough(less) < rough(image)


def test_thin_slices_take_as_many_numbers_from_the_generator_as_thick_ones() -> None:
    states = []
    for spacing_mm in (THIN_MM, (1.0, 1.0, 10.0), None):
        one = generator(4)
        draw_spatial(Augmentation(), one, spacing_mm)
        states.append(one.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])
