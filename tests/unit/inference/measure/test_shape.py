"""Parts of a structure, and whether a cavity lies in its wall."""

from __future__ import annotations

import numpy as np
import pytest

from medmtl.inference.measure.shape import enclosed_share, end_shares, largest_share, shapes_of, stack_last
from tests.helpers.study import heart

LABELS = {"RV": 1, "MYO": 2, "LV": 3}
HEART = heart(3.0)


def test_a_structure_in_one_part_is_whole() -> None:
    assert largest_share(HEART == 3) == 1.0


def test_the_share_of_the_largest_part_is_counted_in_voxels() -> None:
    mask = np.zeros((8, 8, 4), bool)
    mask[:2, :2, :3] = True
    mask[6:, 6:, 3] = True
    assert largest_share(mask) == 12 / 16


def test_parts_that_touch_by_a_corner_are_one() -> None:
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert largest_share(mask) == 1.0


def test_what_is_not_there_has_no_share() -> None:
    empty = np.zeros((4, 4, 4), bool)
    assert (largest_share(empty), enclosed_share(empty, empty), end_shares(empty)) == (None, None, None)


def test_a_cavity_in_a_whole_ring_is_enclosed() -> None:
    assert enclosed_share(HEART == 3, HEART == 2) == 1.0


def test_a_cavity_beside_its_wall_is_not() -> None:
    shifted = np.roll(HEART == 3, 6, axis=1)
    share = enclosed_share(shifted, HEART == 2)
    assert share is not None
    assert share < 0.5


def test_a_ring_with_a_gap_is_measured_by_its_share() -> None:
    cavity, wall = np.zeros((5, 5, 1), bool), np.ones((5, 5, 1), bool)
    cavity[2, 2] = True
    wall[2, 2], wall[2, 1] = False, False
    assert enclosed_share(cavity, wall) == 3 / 4


def test_the_slices_above_and_below_are_no_rim() -> None:
    cavity, wall = np.zeros((5, 5, 3), bool), np.zeros((5, 5, 3), bool)
    cavity[2, 2, 1] = True
    wall[1:4, 1:4, 1] = True
    assert enclosed_share(cavity, wall) == 1.0


def test_the_ends_of_the_stack_are_compared_with_the_largest_slice() -> None:
    mask = np.zeros((4, 4, 3), bool)
    mask[:, :, 1], mask[0, :2, 2] = True, True
    assert end_shares(mask) == (0.0, 2 / 16)


def test_the_worst_frame_counts() -> None:
    broken = HEART.copy()
    broken[0, 0] = 3
    found = {
        (kind, name): share
        for kind, name, share in shapes_of(np.stack([HEART, broken]), LABELS, [0, 1], ("MYO", "LV"))
    }
    assert found["parts", "LV"] == pytest.approx(1 - 4 / (np.count_nonzero(HEART == 3) + 4))
    assert found["parts", "MYO"] == 1.0
    assert found["enclosed", "LV"] < 1.0


def test_slices_come_last_however_a_file_stores_them() -> None:
    mask = np.zeros((1, 4, 16, 16))
    assert stack_last(mask, (8.0, 1.5, 1.5)).shape == (1, 16, 16, 4)
    assert stack_last(mask, (1.5, 1.5, 8.0)).shape == (1, 4, 16, 16)
    assert stack_last(mask, (1.0, 1.0, 1.0)).shape == (1, 4, 16, 16)
