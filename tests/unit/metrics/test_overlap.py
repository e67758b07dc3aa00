"""Dice: what is undefined, what is refused, and its algebra."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medmtl.metrics import dice

masks = arrays(np.bool_, (4, 3, 2))


def test_dice_of_two_empty_masks_is_undefined() -> None:
    empty = np.zeros((3, 3), bool)
    assert math.isnan(dice(empty, empty))


def test_dice_of_one_empty_mask_is_zero() -> None:
    empty, full = np.zeros((3, 3), bool), np.ones((3, 3), bool)
    assert dice(empty, full) == 0
    assert dice(full, empty) == 0


def test_masks_on_different_grids_are_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(3, 3\) and truth \(3, 4\)"):
        dice(np.zeros((3, 3), bool), np.zeros((3, 4), bool))


def test_a_label_map_is_refused_instead_of_read_as_foreground() -> None:
    with pytest.raises(ValueError, match="prediction must be a boolean mask, found values from 0 to 3"):
        dice(np.array([0, 3]), np.array([0, 1]))


def test_zeros_and_ones_are_a_mask() -> None:
    assert dice(np.array([0, 1, 1], np.uint8), np.array([False, True, True])) == 1


def test_dice_is_twice_the_intersection_over_the_sum_of_sizes() -> None:
    prediction, truth = np.zeros(10, bool), np.zeros(10, bool)
    prediction[:4], truth[3:9] = True, True
    assert dice(prediction, truth) == pytest.approx(2 * 1 / (4 + 6))


@given(masks, masks)
def test_dice_is_symmetric_and_within_zero_and_one(prediction: np.ndarray, truth: np.ndarray) -> None:
    value = dice(prediction, truth)
    assert value == dice(truth, prediction) or not (prediction.any() or truth.any())
    assert math.isnan(value) or 0 <= value <= 1


@given(masks, masks, st.permutations(range(3)))
def test_dice_does_not_depend_on_the_order_of_axes(
    prediction: np.ndarray, truth: np.ndarray, axes: list[int]
) -> None:
    turned = dice(prediction.transpose(axes), truth.transpose(axes))
    np.testing.assert_equal(turned, dice(prediction, truth))
