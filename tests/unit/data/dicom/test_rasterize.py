"""Polygons on a grid: degenerate ones first, then the rule, then areas."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.data.dicom.rasterize import area, fill


def circle(x: float, y: float, radius: float, points: int = 200) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])


def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


# ---- what encloses nothing


@pytest.mark.parametrize(
    "points",
    [
        [[2.0, 3.0]],
        [[2.0, 3.0], [7.0, 3.0]],
        [[1.0, 1.0], [4.0, 4.0], [8.0, 8.0]],
        [[2.0, 3.0], [2.0, 3.0], [2.0, 3.0]],
        [[-9.0, -9.0], [-5.0, -9.0], [-5.0, -4.0]],
        [[90.0, 3.0], [95.0, 3.0], [95.0, 9.0]],
    ],
)
def test_a_polygon_without_area_or_off_the_grid_fills_nothing(points: list[list[float]]) -> None:
    assert not fill([np.array(points)], (12, 10)).any()


def test_no_polygon_fills_nothing() -> None:
    assert fill([], (4, 3)).shape == (4, 3)
    assert not fill([], (4, 3)).any()


def test_what_reaches_beyond_the_grid_is_cut_off() -> None:
    assert fill([rectangle(-1e6, -1e6, 1e6, 1e6)], (5, 4)).all()


# ---- the rule


def test_a_voxel_belongs_where_its_centre_is_inside() -> None:
    mask = fill([rectangle(0.5, 1.5, 3.49, 2.5)], (6, 5))
    assert np.argwhere(mask).tolist() == [[1, 2], [2, 2], [3, 2]]


def test_x_is_the_column_and_y_the_row() -> None:
    mask = fill([rectangle(-0.5, -0.5, 3.5, 0.5)], (6, 5))
    assert np.argwhere(mask).tolist() == [[0, 0], [1, 0], [2, 0], [3, 0]]


def test_regions_with_a_common_border_on_centres_share_no_voxel_and_leave_none_out() -> None:
    cuts = [-1.0, 2.0, 5.0, 8.0]
    tiles = [
        fill([rectangle(x0, y0, x1, y1)], (8, 8)).astype(int)
        for x0, x1 in pairwise(cuts)
        for y0, y1 in pairwise(cuts)
    ]
    assert (sum(tiles) == 1).all()


def test_an_outline_inside_another_is_a_hole_and_one_inside_that_is_not() -> None:
    rings = [circle(20, 20, radius) for radius in (15.2, 10.1, 4.3)]
    mask = fill(rings, (40, 40))
    assert mask[20, 20]
    assert not mask[27, 20]
    assert mask[33, 20]
    np.testing.assert_array_equal(
        mask, fill(rings[:1], (40, 40)) ^ fill(rings[1:2], (40, 40)) ^ fill(rings[2:], (40, 40))
    )


def test_a_keyhole_is_a_hole() -> None:
    outer, inner = circle(20, 20, 15.2), circle(20, 20, 6.3)[::-1]
    keyhole = np.vstack([outer, outer[:1], inner[:1], inner, inner[:1]])
    np.testing.assert_array_equal(fill([keyhole], (40, 40)), fill([outer, inner], (40, 40)))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-8, 40), st.integers(-8, 40)), min_size=3, max_size=9),
    st.integers(0, 8),
    st.booleans(),
)
def test_start_and_direction_of_the_outline_do_not_matter(
    corners: list[tuple[int, int]], start: int, backwards: bool
) -> None:
    points = np.array(corners) / 3.0
    other = np.roll(points, start, axis=0)[:: -1 if backwards else 1]
    np.testing.assert_array_equal(fill([points], (11, 9)), fill([other], (11, 9)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-8, 40), st.integers(-8, 40)), min_size=3, max_size=7))
def test_every_centre_off_the_outline_agrees_with_counting_crossings(corners: list[tuple[int, int]]) -> None:
    # Shifted such that no line through two corners meets a centre: 41 dy = 59 dx has no solution among them.
    points = np.array(corners) / 3.0 + (0.0123, 0.0177)
    mask = fill([points], (11, 9))
    x, y = np.meshgrid(np.arange(11), np.arange(9), indexing="ij")
    expected = np.zeros((11, 9), bool)
    for one, two in zip(points, np.roll(points, -1, axis=0), strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            at = one[0] + (y - one[1]) / (two[1] - one[1]) * (two[0] - one[0])
        expected ^= ((one[1] > y) != (two[1] > y)) & (at <= x)
    np.testing.assert_array_equal(mask, expected)


# ---- areas


@pytest.mark.parametrize("radius", [4.0, 9.3, 25.0])
def test_a_circle_has_its_area(radius: float) -> None:
    outline = circle(30.4, 31.7, radius, points=720)
    true = np.pi * radius**2
    assert area(outline) == pytest.approx(true, rel=1e-3)
    assert fill([outline], (64, 64)).sum() == pytest.approx(true, rel=0.05)
