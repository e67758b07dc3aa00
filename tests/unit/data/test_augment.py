from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from medmtl.data.augment import (
    NONE,
    Augmentation,
    SpatialDraw,
    change_intensity,
    draw_spatial,
    patch_grid,
    sample_image,
    sample_map,
    sample_mask,
)

IDENTITY = SpatialDraw(((1.0, 0.0), (0.0, 1.0)), (0.0, 0.0, 0.0), 1.0)
SPACE = replace(Augmentation(), probability=0.0)
LOUD = replace(Augmentation(), probability=1.0)


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
    image = noise(2, 1, 8, 8, 3)
    assert torch.equal(change_intensity(image, NONE, generator(5)), image)


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
    image = noise(2, 1, 12, 12, 4)
    assert draw_spatial(SPACE, generator(1)) == draw_spatial(SPACE, generator(1))
    assert draw_spatial(SPACE, generator(1)) != draw_spatial(SPACE, generator(2))
    assert torch.equal(
        change_intensity(image, LOUD, generator(1)), change_intensity(image, LOUD, generator(1))
    )
    assert not torch.equal(
        change_intensity(image, LOUD, generator(1)), change_intensity(image, LOUD, generator(2))
    )


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    draw_spatial(SPACE, generator())
    change_intensity(noise(1, 1, 8, 8, 3), LOUD, generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_number_of_draws_does_not_depend_on_their_outcome() -> None:
    quiet, loud = generator(4), generator(4)
    draw_spatial(NONE, quiet)
    draw_spatial(SPACE, loud)
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


# ----------------------------------------------------------------------------------------- intensity


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_intensities_change_into_plain_finite_tensors_of_the_same_shape(seed: int) -> None:
    image = noise(2, 2, 12, 10, 4)
    changed = change_intensity(image, LOUD, generator(seed))
    assert type(changed) is torch.Tensor
    assert changed.shape == image.shape
    assert changed.isfinite().all()
    assert abs(float(changed.mean())) < 0.6
    assert 0.2 < float(changed.std()) < 2


def test_all_frames_change_alike() -> None:
    frame = noise(1, 1, 12, 12, 4)
    quiet = replace(LOUD, noise=0.0)
    first, second = change_intensity(frame.repeat(2, 1, 1, 1, 1), quiet, generator(2))
    assert torch.allclose(first, second, atol=1e-6)


def test_gamma_bends_contrast_but_keeps_mean_and_spread() -> None:
    image = noise(1, 1, 16, 16, 4)
    only = replace(NONE, probability=1.0, gamma=0.8)
    for seed in range(5):
        changed = change_intensity(image, only, generator(seed))
        assert changed.mean() == pytest.approx(float(image.mean()), abs=1e-4)
        assert changed.std() == pytest.approx(float(image.std()), rel=1e-3)
        order = image.flatten().argsort()
        assert (changed.flatten()[order].diff() >= -1e-5).all()


def test_blur_smooths_within_slices_and_never_across() -> None:
    image = torch.zeros(1, 1, 17, 17, 3)
    image[0, 0, 8, 8, 1] = 1
    only = replace(NONE, probability=1.0, blur_voxels=1.5)
    changed = change_intensity(image, only, generator(1))
    assert changed[..., [0, 2]].abs().max() == 0
    assert 0 < changed[0, 0, 8, 8, 1] < 0.9
    assert changed.sum() == pytest.approx(1, abs=1e-4)


@given(seed=st.integers(0, 2**31))
def test_a_stack_that_fits_the_patch_moves_in_it_and_stays_whole(seed: int) -> None:
    stack = torch.arange(1.0, 6.0).expand(1, 1, 8, 8, 5)
    draw = draw_spatial(replace(NONE, shift_slices=4.0), generator(seed))
    found = sample_image(stack, patch_grid(draw, (3.5, 3.5, 2.0), (8, 8, 9), (8, 8, 5)))[0, 0, 4, 4]
    first = min(max(2 - round(draw.shift[2]), 0), 4)
    assert found.tolist() == [0.0] * first + [1.0, 2.0, 3.0, 4.0, 5.0] + [0.0] * (4 - first)
