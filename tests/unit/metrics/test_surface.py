"""Surface distances: undefined cases, cubes whose distance is known, and MONAI as the oracle."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medmtl.metrics import hausdorff, surface_dice

SPACING = (1.5, 1.25, 8.0)
EMPTY = np.zeros((6, 6, 6), bool)
calls_monai = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def cube(start: tuple[int, int, int], size: int = 3, shape: int = 16) -> np.ndarray:
    mask = np.zeros((shape,) * 3, bool)
    mask[tuple(slice(first, first + size) for first in start)] = True
    return mask


def blob(seed: int, shape: tuple[int, int, int] = (24, 20, 9)) -> np.ndarray:
    """A ball with a ragged border and some stray voxels."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    radius = np.linalg.norm(grid - generator.uniform(-0.2, 0.2, 3)[:, None, None, None], axis=0)
    return radius + 0.15 * generator.normal(size=shape) < 0.6


def test_two_empty_masks_have_no_distance() -> None:
    assert math.isnan(hausdorff(EMPTY, EMPTY, (1, 1, 1)))
    assert math.isnan(surface_dice(EMPTY, EMPTY, (1, 1, 1), 2.0))


def test_one_empty_mask_is_infinitely_far_and_agrees_nowhere() -> None:
    for pair in ((EMPTY, ~EMPTY), (~EMPTY, EMPTY)):
        assert hausdorff(*pair, (1, 1, 1)) == math.inf
        assert surface_dice(*pair, (1, 1, 1), 2.0) == 0


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 1.0, -2.0), (1.0, 1.0, math.nan)])
def test_a_spacing_that_does_not_fit_the_mask_is_refused(spacing: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="spacing_mm must be 3 positive numbers"):
        hausdorff(EMPTY, EMPTY, spacing)


@pytest.mark.parametrize("percentile", [0, -5, 101, math.nan])
def test_a_percentile_outside_its_range_is_refused(percentile: float) -> None:
    with pytest.raises(ValueError, match="percentile must be above 0"):
        hausdorff(EMPTY, EMPTY, (1, 1, 1), percentile)


@pytest.mark.parametrize("tolerance", [-1.0, math.inf, math.nan])
def test_a_tolerance_that_is_no_distance_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance_mm must be"):
        surface_dice(EMPTY, EMPTY, (1, 1, 1), tolerance)


@pytest.mark.parametrize(("axis", "steps"), [(0, 1), (0, 5), (1, 4), (2, 1), (2, 6)])
def test_a_cube_moved_along_one_axis_is_as_far_as_it_moved(axis: int, steps: int) -> None:
    moved = [2, 2, 2]
    moved[axis] += steps
    distance = hausdorff(cube((2, 2, 2)), cube(tuple(moved)), SPACING, percentile=100)
    assert distance == pytest.approx(steps * SPACING[axis])


def test_a_single_voxel_moved_diagonally_is_as_far_as_pythagoras_says() -> None:
    distance = hausdorff(cube((1, 1, 1), 1), cube((3, 4, 2), 1), SPACING)
    assert distance == pytest.approx(math.hypot(2 * 1.5, 3 * 1.25, 8.0))


def test_the_95th_percentile_forgives_a_stray_voxel_and_the_maximum_does_not() -> None:
    truth = cube((2, 2, 2), 6)
    prediction = truth.copy()
    prediction[15, 15, 15] = True
    assert hausdorff(prediction, truth, (1, 1, 1)) == 0
    assert hausdorff(prediction, truth, (1, 1, 1), percentile=100) == pytest.approx(math.sqrt(3) * 8)


def test_surface_dice_counts_the_share_of_surface_voxels_within_the_tolerance() -> None:
    truth, prediction = np.zeros((1, 5), bool), np.zeros((1, 5), bool)
    truth[0, 0], prediction[0, 0], prediction[0, 4] = True, True, True
    assert surface_dice(prediction, truth, (1, 2), tolerance_mm=7.9) == pytest.approx(2 / 3)
    assert surface_dice(prediction, truth, (1, 2), tolerance_mm=8.0) == 1


@settings(deadline=None, max_examples=50)
@given(arrays(np.bool_, (5, 4, 3)), arrays(np.bool_, (5, 4, 3)), st.sampled_from([50.0, 95.0, 100.0]))
def test_surface_metrics_are_symmetric_and_do_not_see_the_background_around(
    prediction: np.ndarray, truth: np.ndarray, percentile: float
) -> None:
    value = hausdorff(prediction, truth, SPACING, percentile)
    overlap = surface_dice(prediction, truth, SPACING, 1.5)
    padded = tuple(np.pad(mask, ((3, 1), (0, 2), (4, 4))) for mask in (truth, prediction))
    np.testing.assert_allclose(hausdorff(*padded, SPACING, percentile), value)
    np.testing.assert_allclose(surface_dice(*padded, SPACING, 1.5), overlap)


@given(arrays(np.bool_, (5, 4, 3)))
def test_a_mask_agrees_with_itself(mask: np.ndarray) -> None:
    expected = (0.0, 1.0) if mask.any() else (math.nan, math.nan)
    np.testing.assert_equal((hausdorff(mask, mask, SPACING), surface_dice(mask, mask, SPACING, 0)), expected)


@calls_monai
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("percentile", [95, 100])
def test_hausdorff_equals_monai(seed: int, percentile: int) -> None:
    torch, monai = _oracle()
    prediction, truth = blob(seed), blob(seed + 100)
    expected = monai.compute_hausdorff_distance(
        torch.as_tensor(prediction)[None, None],
        torch.as_tensor(truth)[None, None],
        include_background=True,
        percentile=percentile,
        spacing=SPACING,
    )
    assert hausdorff(prediction, truth, SPACING, percentile) == pytest.approx(float(expected), rel=1e-5)


@calls_monai
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tolerance", [0.0, 1.5, 8.0])
def test_surface_dice_equals_monai(seed: int, tolerance: float) -> None:
    torch, monai = _oracle()
    prediction, truth = blob(seed), blob(seed + 100)
    expected = monai.compute_surface_dice(
        torch.as_tensor(prediction)[None, None],
        torch.as_tensor(truth)[None, None],
        class_thresholds=[tolerance],
        include_background=True,
        spacing=SPACING,
    )
    assert surface_dice(prediction, truth, SPACING, tolerance) == pytest.approx(float(expected), rel=1e-5)


def test_a_heart_in_a_large_image_takes_well_under_a_second() -> None:
    truth = np.zeros((256, 256, 12), bool)
    truth[90:140, 100:150, 2:10] = True
    prediction = np.roll(truth, 3, axis=0)
    start = time.perf_counter()
    value = hausdorff(prediction, truth, (1.5, 1.5, 8.0))
    assert time.perf_counter() - start < 1.0
    assert value == pytest.approx(4.5)


def _oracle() -> tuple:
    return pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
