from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.data.augment import Augmentation, draw_spatial
from medmtl.data.crop import Box, box_of, into_box
from medmtl.data.foreground import PER_STRUCTURE, foreground_index, labelled_box, organ_place
from medmtl.data.spatial import patch_grid, sample_image, sample_mask

STRONG = Augmentation(zoom=0.4, stretch=0.4, warp_voxels=2.0, shift_slices=3.0, slice_shift_voxels=1.0)
SHAPE = (40, 30, 14)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31 - 1),
    st.tuples(st.floats(-20, 60), st.floats(-20, 60), st.floats(-5, 20)),
    st.tuples(st.integers(2, 50), st.integers(2, 50), st.integers(1, 20)),
    st.sampled_from([(1.5, 1.5, 10.0), (1.5, 1.5, 3.0)]),
)
def test_a_patch_sampled_from_the_box_is_the_patch_sampled_from_the_whole(
    seed: int,
    centre: tuple[float, float, float],
    patch: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
) -> None:
    generator = torch.Generator().manual_seed(seed)
    image, mask = (
        torch.randn((2, 1, *SHAPE), generator=generator),
        torch.randint(0, 4, (2, *SHAPE), generator=generator),
    )
    grid = patch_grid(draw_spatial(STRONG, generator, spacing_mm), centre, patch, SHAPE)
    box = box_of(grid, SHAPE)
    inner = into_box(grid, SHAPE, box)
    part = image[(..., *box.slices)]
    assert torch.allclose(sample_image(part, inner), sample_image(image, grid), atol=2e-3)
    whole, cropped = sample_mask(mask, grid), sample_mask(mask[(..., *box.slices)], inner)
    assert (whole == cropped).float().mean() > 0.999, "a voxel may lie midway between two"


def test_an_unchanged_patch_needs_no_more_than_itself_and_two_neighbours() -> None:
    from medmtl.data.augment import NONE

    grid = patch_grid(
        draw_spatial(NONE, torch.Generator().manual_seed(0)), (19.5, 14.5, 6.5), (8, 8, 6), SHAPE
    )
    box = box_of(grid, SHAPE)
    assert all(size <= p + 4 for size, p in zip(box.shape, (8, 8, 6), strict=True))


def test_a_patch_outside_the_volume_still_has_a_box() -> None:
    grid = torch.full((1, 2, 2, 2, 3), 9.0)
    assert box_of(grid, SHAPE) == Box((39, 29, 13), (40, 30, 14))
    assert box_of(-grid, SHAPE) == Box((0, 0, 0), (1, 1, 1))


def test_the_organ_lies_in_the_middle_of_the_first_mask_that_labels_anything() -> None:
    mask = torch.zeros(2, 10, 9, 4, dtype=torch.uint8)
    assert labelled_box(mask) is None
    assert organ_place([None], (10, 9, 4)) == ((4.5, 4.0, 1.5), (0, 0, 0))
    mask[0, 2, 3, 1] = 1
    mask[1, 6, 4, 2] = 2
    mask[:, 0] = 255
    assert labelled_box(mask) == ((2, 3, 1), (6, 4, 2))
    assert organ_place([None, labelled_box(mask)], (10, 9, 4)) == ((4.0, 3.5, 1.5), (5, 2, 2))


def test_every_structure_is_indexed_rare_ones_wholly_and_large_ones_evenly() -> None:
    mask = torch.zeros(2, 20, 20, 10, dtype=torch.uint8)
    mask[0, :10] = 3
    mask[1, 15, 15, 5] = 1
    mask[1, 0] = 255
    tumour = torch.zeros_like(mask)
    tumour[1, 4, 4, 4] = 1
    rows = foreground_index({"organs": mask, "lesion": tumour})
    by_structure = {int(n): rows[rows[:, 0] == n] for n in rows[:, 0].unique()}
    assert by_structure.keys() == {1, 256 + 1, 256 + 3}  # lesion comes before organs
    assert by_structure[1][:, 1:].tolist() == [[1, 4, 4, 4]]
    assert by_structure[257][:, 1:].tolist() == [[1, 15, 15, 5]]
    large = by_structure[259]
    assert len(large) == PER_STRUCTURE
    assert all(mask[tuple(place)] == 3 for place in large[:, 1:].tolist())
    assert abs(float(large[:, 2].float().mean()) - 4.5) < 0.2
    assert foreground_index({}).shape == (0, 5)
