"""Whole volumes, coarser: means of what they cover, proportions kept, the same in a sample as its patch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medmtl.data.augment import NONE, Augmentation
from medmtl.data.batch import collate, sample_case, to_device
from medmtl.data.nifti import Geometry
from medmtl.data.overview import coarse_mm, coarse_shape, fits, make_coarse, see_whole
from medmtl.data.prepare import PreparedCase
from medmtl.inference.patch import IDENTITY, place

PATCH = (8, 8, 4)
sides = st.tuples(*[st.integers(1, 70)] * 3)


def case_of(shape: tuple[int, int, int], frames: int = 2, seed: int = 0, name: str = "c") -> PreparedCase:
    image = torch.randn(frames, 2, *shape, generator=torch.Generator().manual_seed(seed))
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    middle = tuple((n - 1) / 2 for n in shape)
    return PreparedCase(
        name, image, (1.0, 1.0, 4.0), Geometry(shape, frames, affine), True, affine, centre=middle
    )


@given(sides, sides)
def test_a_coarse_volume_fits_the_grid_and_is_never_finer_than_the_volume(
    shape: tuple[int, int, int], grid: tuple[int, int, int]
) -> None:
    coarse = coarse_shape(shape, grid)
    assert fits(coarse, grid)
    assert fits(coarse, shape)
    if fits(shape, grid):
        assert coarse == shape


@pytest.mark.parametrize(("shape", "grid", "coarse"), [
    ((64, 32, 10), (16, 16, 10), (16, 8, 10)),  # one factor in-plane, the slices stay
    ((30, 60, 40), (16, 16, 10), (8, 16, 10)),
    ((512, 512, 200), (128, 128, 64), (128, 128, 64)),
])  # fmt: skip
def test_in_plane_proportions_stay(
    shape: tuple[int, int, int], grid: tuple[int, int, int], coarse: tuple[int, int, int]
) -> None:
    assert coarse_shape(shape, grid) == coarse


def test_a_coarse_voxel_is_the_mean_of_what_it_covers_and_as_large() -> None:
    image = torch.arange(2 * 8 * 8 * 4, dtype=torch.float32).reshape(2, 1, 8, 8, 4)
    coarse = make_coarse(image, (4, 4, 2))
    assert coarse.shape == (2, 1, 4, 4, 2)
    assert torch.equal(coarse[1, 0, 2, 3, 1], image[1, 0, 4:6, 6:8, 2:4].mean())
    assert coarse.mean() == image.mean()
    assert coarse_mm((1.5, 1.5, 3.0), (8, 8, 4), (4, 4, 2)) == (3.0, 3.0, 6.0)
    assert coarse_mm((1.5, 1.5, 3.0), (8, 8, 4), (4, 4, 2), zooms=(2, 2, 1)) == (1.5, 1.5, 6.0)


def test_a_frame_does_not_depend_on_how_many_there_are() -> None:
    image = torch.randn(3, 1, 21, 17, 9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(make_coarse(image, PATCH)[1:2], make_coarse(image[1:2], PATCH))


@given(sides)
def test_an_unchanged_overview_lies_in_the_middle_of_its_grid_on_whole_voxels(
    shape: tuple[int, int, int],
) -> None:
    grid = (16, 16, 6)
    image = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    coarse = make_coarse(image, grid)
    seen = see_whole(coarse, grid, shape, IDENTITY)
    small = [int(n) for n in coarse.shape[2:]]
    inside = place(grid, small, [(n - 1) / 2 for n in small]).in_patch
    assert seen.shape == (1, 1, *grid)
    torch.testing.assert_close(seen[(..., *inside)], coarse, rtol=1e-5, atol=1e-5)
    outside = torch.ones(seen.shape, dtype=torch.bool)
    outside[(..., *inside)] = False
    assert not outside.any() or float(seen[outside].abs().max()) < 1e-4


def test_a_volume_that_fits_its_patch_has_no_overview_beside_it() -> None:
    sample = sample_case(case_of((8, 7, 4)), PATCH, [0], NONE, torch.Generator(), overview=PATCH)
    assert sample.overview is None
    assert collate([sample], {}).overview is None


def test_an_overview_is_mirrored_turned_and_zoomed_as_its_patch_is() -> None:
    augmentation = Augmentation(
        **{**NONE.__dict__, "rotation_degrees": 30.0, "zoom": 0.3, "mirror": True, "shift_voxels": 4.0}
    )
    x = torch.linspace(-1, 1, 32)
    image = (torch.exp(-60 * ((x[:, None] - 0.2) ** 2 + x[None, :] ** 2)))[None, None, :, :, None]
    case = case_of((32, 32, 4), frames=1)
    case.image = image.repeat(1, 1, 1, 1, 4)
    for seed in range(6):
        drawn = torch.Generator().manual_seed(seed)
        sample = sample_case(case, (16, 16, 4), [0], augmentation, drawn, overview=(16, 16, 4))
        assert sample.overview is not None
        assert sample.overview_mm is not None
        assert sample.overview_mm[0] == pytest.approx(2 * sample.spacing_mm[0])
        whole = sample.overview[0, 0, :, :, 1]
        patch = sample.image[0, 0, :, :, 1]

        def middle(plane: torch.Tensor, mm: float) -> torch.Tensor:
            """Centre of mass in mm from the middle of what is seen."""
            steps = (torch.arange(16) - 7.5) * mm
            weight = plane.clamp_min(0.3) - 0.3
            return torch.stack([(weight.sum(1) * steps).sum(), (weight.sum(0) * steps).sum()]) / weight.sum()

        assert torch.allclose(
            middle(whole, sample.overview_mm[0]), middle(patch, sample.spacing_mm[0]), atol=0.6
        )


def test_a_batch_says_which_frames_have_an_overview_and_at_which_voxel_size() -> None:
    small, large = case_of((8, 8, 4), name="small"), case_of((16, 12, 4), frames=3, seed=1, name="large")
    samples = [
        sample_case(small, PATCH, [0, 1], NONE, torch.Generator(), overview=PATCH),
        sample_case(large, PATCH, [0, 2], NONE, torch.Generator(), overview=PATCH),
    ]
    batch = to_device(collate(samples, {}), torch.device("cpu"))
    assert batch.overview is not None
    assert batch.overview.image.shape == (2, 2, *PATCH)
    assert batch.overview.frames.tolist() == [2, 3]
    torch.testing.assert_close(batch.overview.spacing_mm, torch.tensor([[1.0, 1.0, 4.0], [2.0, 2.0, 4.0]]))
    kept = make_coarse(large.image, PATCH)
    torch.testing.assert_close(batch.overview.image[1, :, :, 1:7], kept[2], rtol=1e-5, atol=1e-5)


def test_samples_are_those_of_before_where_there_is_no_overview() -> None:
    case, augmentation = case_of((16, 12, 4)), Augmentation()
    without = sample_case(case, PATCH, [0], augmentation, torch.Generator().manual_seed(3))
    beside = sample_case(case, PATCH, [0], augmentation, torch.Generator().manual_seed(3), overview=PATCH)
    assert torch.equal(without.image, beside.image)
