from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from medmtl.data.augment import NONE, Augmentation, draw_spatial
from medmtl.data.spatial import SpatialDraw, patch_grid, sample_image, sample_map, sample_mask

IDENTITY = SpatialDraw(((1.0, 0.0), (0.0, 1.0)), (0.0, 0.0, 0.0), 1.0)
SPACE = replace(Augmentation(), probability=0.0)
WILD = replace(
    Augmentation(), probability=1.0, rotation_probability=0.5, stretch=0.3, warp_voxels=2.0,
    slice_shift_voxels=1.0, mirror_stack=True,
)  # fmt: skip


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(7))


def ball(shape: tuple[int, int, int], radius: float) -> Tensor:
    x, y, z = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    return ((x**2 + y**2 < radius**2) & (z.abs() < shape[2] / 2 - 1)).to(torch.uint8)[None]


# ------------------------------------------------------------------------------------------ identity


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.floats(0, 13), st.floats(0, 11), st.floats(0, 5)),
    st.tuples(st.integers(2, 20), st.integers(2, 20), st.integers(1, 9)),
)
def test_an_identity_draw_is_exactly_a_crop(
    centre: tuple[float, float, float], patch: tuple[int, int, int]
) -> None:
    shape = (14, 12, 6)
    image = noise(2, 1, *shape)
    mask = torch.randint(1, 200, (2, *shape), generator=generator(1), dtype=torch.uint8)
    grid = patch_grid(IDENTITY, centre, patch, shape)
    cut, labels = sample_image(image, grid), sample_mask(mask, grid)
    first = [round(c - (p - 1) / 2) for c, p in zip(centre, patch, strict=True)]
    first[2] = -((patch[2] - 6) // 2) if patch[2] >= 6 else min(max(first[2], 0), 6 - patch[2])
    for value, source in ((cut[:, 0], image[:, 0]), (labels, mask.long())):
        expected = torch.zeros(2, *patch, dtype=value.dtype)
        inside = [
            slice(max(0, -f), max(0, min(p, n - f))) for f, p, n in zip(first, patch, shape, strict=True)
        ]
        taken = [slice(max(0, f), max(0, min(f + p, n))) for f, p, n in zip(first, patch, shape, strict=True)]
        expected[(slice(None), *inside)] = source[(slice(None), *taken)]
        assert torch.allclose(value, expected, atol=2e-5)


def test_nothing_to_draw_is_the_identity() -> None:
    assert draw_spatial(NONE, generator(5)) == IDENTITY


# --------------------------------------------------------------------------------------- consistency


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_image_mask_and_map_move_together(seed: int) -> None:
    mask = ball((40, 36, 6), 9)
    mask[:, 24:, :, :] = 0  # half a ball: any disagreement of mirror or rotation would show
    draw = draw_spatial(SPACE, generator(seed))
    grid = patch_grid(draw, (19.5, 17.5, 2.5), (48, 48, 8), (40, 36, 6))
    labels = sample_mask(mask, grid)
    image = sample_image(mask[:, None].float(), grid)[:, 0]
    values = sample_map(mask.float(), grid)
    # the nearest of four voxels weighs at least a quarter
    assert (labels[image > 0.76] == 1).all()
    assert (labels[image < 0.24] == 0).all()
    known = values.isfinite()
    assert torch.allclose(values[known], image[known], atol=0.02)
    assert (known == (sample_image(torch.ones(1, 1, 40, 36, 6), grid)[:, 0] > 0.99)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_a_zoom_changes_the_voxel_size_and_not_the_volume(seed: int) -> None:
    mask = ball((64, 64, 6), 24)
    before = int(mask.sum())
    draw = draw_spatial(replace(SPACE, zoom=0.4, shift_slices=0.0), generator(seed))
    grid = patch_grid(draw, (31.5, 31.5, 2.5), (96, 96, 6), (64, 64, 6))
    after = int((sample_mask(mask, grid) == 1).sum()) / draw.zoom**2
    assert 1 / 1.4 <= draw.zoom <= 1.4
    assert abs(after / before - 1) < 0.03


def test_a_zoom_above_one_makes_the_organ_look_larger() -> None:
    mask = ball((64, 64, 6), 24)
    for zoom in (0.8, 1.25):
        draw = SpatialDraw(((1 / zoom, 0.0), (0.0, 1 / zoom)), (0.0, 0.0, 0.0), zoom)
        grid = patch_grid(draw, (31.5, 31.5, 2.5), (72, 72, 6), (64, 64, 6))
        assert int(sample_mask(mask, grid).sum()) / int(mask.sum()) == pytest.approx(zoom**2, rel=0.03)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12))
def test_slices_are_never_interpolated(seed: int, slices: int, depth: int) -> None:
    image = (2.0 ** torch.arange(slices)).expand(1, 1, 40, 40, slices).contiguous()
    draw = draw_spatial(replace(SPACE, shift_slices=3.0, shift_voxels=2.0), generator(seed))
    grid = patch_grid(draw, (19.5, 19.5, (slices - 1) / 2), (8, 8, depth), (40, 40, slices))
    seen = sample_image(image, grid)[0, 0, 4, 4]
    own = image[0, 0, 0, 0]
    matches = (seen[:, None] - own[None]).abs() / own < 1e-3
    assert ((matches.sum(1) == 1) | (seen < 1e-2)).all()
    assert int((seen > 1e-2).sum()) == min(slices, depth)
    order = matches.float().argmax(1)[seen > 1e-2]
    assert (order.diff() == 1).all()


def test_a_stack_that_fits_the_patch_is_always_seen_whole() -> None:
    image = torch.ones(1, 1, 16, 16, 5)
    for seed in range(20):
        draw = draw_spatial(replace(SPACE, shift_slices=4.0, shift_voxels=0.0), generator(seed))
        seen = sample_image(image, patch_grid(draw, (8.0, 8.0, 4.0), (4, 4, 8), (16, 16, 5)))
        assert (seen[0, 0, 2, 2] > 0.99).sum() == 5


def test_unlabelled_voxels_stay_unlabelled_through_a_rotation() -> None:
    mask = torch.full((1, 20, 20, 3), 255, dtype=torch.uint8)
    mask[..., 0] = 3
    draw = draw_spatial(SPACE, generator(3))
    grid = patch_grid(draw, (9.5, 9.5, 1.0), (12, 12, 3), (20, 20, 3))
    found = sample_mask(mask, grid)
    assert set(found.unique().tolist()) <= {0, 3, 255}
    assert (found[0, 4:8, 4:8] == torch.tensor([3, 255, 255])).all()


def test_a_map_is_nan_next_to_the_unlabelled_and_true_elsewhere() -> None:
    values = torch.full((1, 20, 20, 3), math.nan)
    values[:, 5:15, 5:15] = 1200.5
    draw = draw_spatial(replace(SPACE, shift_voxels=0.0), generator(3))
    found = sample_map(values, patch_grid(draw, (9.5, 9.5, 1.0), (24, 24, 3), (20, 20, 3)))
    known = found.isfinite()
    assert 0 < known.sum() < 24 * 24 * 3 / 2
    assert torch.allclose(found[known], torch.tensor(1200.5))


# ---------------------------------------------------------------------------------------- randomness


def test_the_same_generator_state_gives_the_same_change_and_another_one_another() -> None:
    assert draw_spatial(WILD, generator(1)) == draw_spatial(WILD, generator(1))
    assert draw_spatial(WILD, generator(1)) != draw_spatial(WILD, generator(2))
    grids = [patch_grid(draw_spatial(WILD, generator(1)), (9.5, 9.5, 2.0), (8, 8, 4), (20, 20, 5))] * 2
    assert torch.equal(*grids)


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    patch_grid(draw_spatial(WILD, generator()), (9.5, 9.5, 2.0), (8, 8, 4), (20, 20, 5))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_number_of_draws_does_not_depend_on_their_outcome() -> None:
    quiet, loud = generator(4), generator(4)
    draw_spatial(NONE, quiet)
    draw_spatial(WILD, loud)
    assert torch.equal(quiet.get_state(), loud.get_state())


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31))
def test_draws_stay_within_their_limits(seed: int) -> None:
    limits = Augmentation(rotation_degrees=30, zoom=0.25, shift_voxels=4, shift_slices=2, mirror=False)
    draw = draw_spatial(limits, generator(seed))
    (a, b), (c, d) = draw.matrix
    assert a * d - b * c == pytest.approx(1 / draw.zoom**2)
    assert abs(math.degrees(math.atan2(c, a))) <= 30.001
    assert 0.8 <= draw.zoom <= 1.25
    assert max(abs(draw.shift[0]), abs(draw.shift[1])) <= 4
    assert draw.shift[2] in (-2, -1, 0, 1, 2)


def test_mirrors_come_up_half_of_the_time() -> None:
    determinants = []
    for seed in range(200):
        (a, b), (c, d) = draw_spatial(SPACE, generator(seed)).matrix
        determinants.append(a * d - b * c < 0)
    assert 70 < sum(determinants) < 130


# -------------------------------------------------------------------------------------- what keeps areas


@given(seed=st.integers(0, 2**31))
def test_a_stack_that_fits_the_patch_moves_in_it_and_stays_whole(seed: int) -> None:
    stack = torch.arange(1.0, 6.0).expand(1, 1, 8, 8, 5)
    draw = draw_spatial(replace(NONE, shift_slices=4.0), generator(seed))
    found = sample_image(stack, patch_grid(draw, (3.5, 3.5, 2.0), (8, 8, 9), (8, 8, 5)))[0, 0, 4, 4]
    first = min(max(2 - round(draw.shift[2]), 0), 4)
    assert found.tolist() == [0.0] * first + [1.0, 2.0, 3.0, 4.0, 5.0] + [0.0] * (4 - first)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_a_stretch_changes_lengths_and_keeps_areas(seed: int) -> None:
    mask = ball((64, 64, 6), 20)
    draw = draw_spatial(replace(NONE, stretch=0.4), generator(seed))
    (a, b), (c, d) = draw.matrix
    assert a * d - b * c == pytest.approx(1)
    ratio = torch.linalg.svdvals(torch.tensor(draw.matrix))
    assert 1 <= ratio[0] / ratio[1] <= 1.4 + 1e-5
    found = sample_mask(mask, patch_grid(draw, (31.5, 31.5, 2.5), (96, 96, 6), (64, 64, 6)))
    assert int(found.sum()) / int(mask.sum()) == pytest.approx(1, abs=0.03)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_a_warp_moves_outlines_and_keeps_the_organs_volume_within_three_percent(seed: int) -> None:
    mask = ball((96, 96, 6), 24)
    draw = draw_spatial(replace(NONE, warp_voxels=3.0, probability=1.0), generator(seed))
    still = patch_grid(IDENTITY, (47.5, 47.5, 2.5), (96, 96, 6), (96, 96, 6))
    grid = patch_grid(draw, (47.5, 47.5, 2.5), (96, 96, 6), (96, 96, 6))
    moved = (grid - still)[..., 1:] * 96 / 2
    assert float(moved.square().sum(-1).mean().sqrt()) == pytest.approx(3.0, rel=0.01)
    found = sample_mask(mask, grid)
    assert not torch.equal(found[0], mask[0].long())
    assert int(found.sum()) / int(mask.sum()) == pytest.approx(1, abs=0.03)


def test_a_warp_is_the_same_on_all_slices_and_a_breath_hold_shift_is_not() -> None:
    centre, patch, shape = (19.5, 19.5, 2.0), (16, 16, 5), (40, 40, 5)
    warped = patch_grid(
        draw_spatial(replace(NONE, warp_voxels=3.0, probability=1.0), generator(1)), centre, patch, shape
    )
    assert torch.equal(warped[..., 0, 1:], warped[..., 4, 1:])
    own = replace(NONE, slice_shift_voxels=2.0, probability=1.0)
    shifted = patch_grid(draw_spatial(own, generator(1)), centre, patch, shape)
    still = patch_grid(IDENTITY, centre, patch, shape)
    apart = (shifted - still)[0, ..., 1:]
    assert torch.allclose(apart, apart[:1, :1].expand_as(apart), atol=1e-6)
    assert len({round(float(x), 5) for x in apart[0, 0, :, 1]}) == 5
    assert torch.equal(shifted[..., 0], still[..., 0])


def test_turning_the_stack_upside_down_reverses_slices_and_nothing_else() -> None:
    image = noise(1, 1, 12, 12, 5)
    draws = [draw_spatial(replace(NONE, mirror_stack=True), generator(seed)) for seed in range(100)]
    assert 30 < sum(draw.flip_stack for draw in draws) < 70
    flipped = replace(IDENTITY, flip_stack=True)
    grids = [patch_grid(draw, (5.5, 5.5, 2.0), (12, 12, 5), (12, 12, 5)) for draw in (IDENTITY, flipped)]
    plain, turned = (sample_image(image, grid) for grid in grids)
    assert torch.equal(turned, plain.flip(-1))


def test_rotation_probability_is_the_share_of_rotated_samples() -> None:
    some = replace(NONE, rotation_degrees=90.0, rotation_probability=0.3)
    turned = [draw_spatial(some, generator(seed)).matrix != IDENTITY.matrix for seed in range(300)]
    assert 60 < sum(turned) < 120
