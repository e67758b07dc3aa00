from __future__ import annotations

import numpy as np
import pytest

from medmtl.data.dicom.geometry import lay_out, slices_of
from medmtl.data.dicom.resample import Chain, Shift, respaced

AXIAL = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def ramp(points: np.ndarray) -> np.ndarray:
    """A field that is linear in position, so that a linear interpolation has to give it exactly."""
    return 100.0 + points @ (3.0, -2.0, 5.0)


def pixels(position: np.ndarray, shape: tuple[int, int], spacing: tuple[float, float]) -> np.ndarray:
    row, column = np.mgrid[: shape[0], : shape[1]]
    return position + np.stack([column * spacing[1], row * spacing[0], 0 * row], axis=-1)


@pytest.mark.parametrize("gaps", [(5.0, 5.0, 5.0), (4.0, 6.0, 5.0, 4.5)])
@pytest.mark.parametrize("along", [0.0, 0.3, -0.45])
@pytest.mark.parametrize("down", [0.0, 0.6, -0.25])
def test_whatever_is_resampled_has_the_values_of_its_true_place(
    gaps: tuple[float, ...], along: float, down: float
) -> None:
    height = np.concatenate([[0.0], np.cumsum(gaps)])
    position = np.stack([along * height, down * height, height], axis=1)
    shape, spacing = (19, 17), (1.5, 2.0)
    made = lay_out(slices_of(position, AXIAL, 1.5), AXIAL, spacing, shape)
    stack = np.stack([ramp(pixels(corner, shape, spacing)) for corner in position])
    got = stack if made.correction is None else made.correction(stack)
    assert got.shape == made.shape[::-1]
    index = np.stack(np.meshgrid(*map(np.arange, made.shape), indexing="ij"), axis=-1)
    lps = (index @ made.affine[:3, :3].T + made.affine[:3, 3]) * (-1, -1, 1)
    above = np.clip(np.searchsorted(height, lps[..., 2] - 1e-9), 0, len(height) - 1)
    below = np.where(np.abs(height[above] - lps[..., 2]) < 1e-9, above, above - 1)
    inside = np.ones(made.shape, dtype=bool)
    for neighbour in (above, below):  # both have pixels all around
        first = position[neighbour][..., :2]
        inside &= (lps[..., :2] >= first - 1e-9).all(-1) & (lps[..., :2] <= first + (32.0, 27.0) + 1e-9).all(
            -1
        )
    assert inside.mean() > 0.3
    np.testing.assert_allclose(got.transpose(2, 1, 0)[inside], ramp(lps)[inside], atol=1e-6)


def test_a_shift_by_whole_pixels_moves_values_and_nothing_else() -> None:
    stack = np.arange(24.0).reshape(2, 3, 4)
    moved = Shift(np.array([0.0, 2.0]), np.array([1.0, 0.0]), (5, 5))(stack)
    np.testing.assert_array_equal(moved[0, :3, 1:], stack[0])
    np.testing.assert_array_equal(moved[1, 2:, :4], stack[1])
    assert (moved[0, 3:] == 0).all()


def test_half_a_pixel_blends_neighbours_and_keeps_the_edge() -> None:
    stack = np.array([[[10.0, 20.0, 40.0]], [[0.0, 0.0, 0.0]]])
    moved = Shift(np.zeros(2), np.array([0.5, 0.0]), (1, 4))(stack)
    np.testing.assert_allclose(moved[0, 0], (10.0, 15.0, 30.0, 40.0))


@pytest.mark.parametrize(
    ("dtype", "expected"), [("int16", "float32"), ("float32", "float32"), ("float64", "float64")]
)
def test_values_keep_their_precision(dtype: str, expected: str) -> None:
    stack = np.zeros((3, 2, 2), dtype=dtype)
    both = Chain(
        (Shift(np.array([0, 0.5, 1]), np.zeros(3), (3, 2)), respaced(np.array([0.0, 1.0, 2.5]), 1.25, 3))
    )
    assert both(stack).dtype == expected


def test_even_slices_are_found_between_uneven_ones() -> None:
    heights = np.array([0.0, 2.0, 5.0, 6.0])
    found = respaced(heights, 2.0, 4)(heights[:, None, None] * 10)
    np.testing.assert_allclose(found[:, 0, 0], (0, 20, 40, 60))
