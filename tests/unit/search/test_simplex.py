"""Fixed weights: every point of the grid once, or points that fill the simplex evenly."""

from __future__ import annotations

import numpy as np
import pytest

from medmtl.search.simplex import LEAST, SimplexGrid, SimplexSample, grid_size
from medmtl.types import ConfigError

NAMES = ("a", "b", "c")


def test_one_task_has_no_weights_to_search() -> None:
    with pytest.raises(ConfigError, match="one task only"):
        SimplexGrid(["a"])


def test_a_resolution_below_the_number_of_tasks_has_no_point() -> None:
    with pytest.raises(ConfigError, match=r"no point with 3 positive weights; give a resolution of 4"):
        SimplexGrid(NAMES, resolution=2)


def test_no_points_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 points are none"):
        SimplexSample(NAMES, count=0)


def test_three_tasks_in_tenths_are_36_points_as_in_the_paper() -> None:
    """Kirchdorfer et al. 2024 search scalarization for three tasks on 36 points."""
    assert grid_size(3, 10) == 36


@pytest.mark.parametrize(("tasks", "resolution"), [(2, 2), (2, 10), (3, 10), (4, 7), (5, 5)])
def test_the_grid_has_every_point_once_and_each_sums_to_1(tasks: int, resolution: int) -> None:
    grid = SimplexGrid([f"t{i}" for i in range(tasks)], resolution=resolution)
    points = grid.points()
    assert len(points) == len(set(points)) == grid.total() == grid.size(0)
    assert all(sum(point) == pytest.approx(1) and min(point) > 0 for point in points)
    assert grid.size(1) == 0


def test_the_order_is_shuffled_by_the_seed_and_always_the_same() -> None:
    one, other = SimplexGrid(NAMES, seed=1), SimplexGrid(NAMES, seed=2)
    assert one.propose(0, []) == SimplexGrid(NAMES, seed=1).propose(0, [])
    assert one.points() != other.points()
    assert sorted(one.points()) == sorted(other.points())


@pytest.mark.parametrize("tasks", [2, 3, 12, 40])
def test_drawn_points_sum_to_1_leave_no_task_out_and_are_all_different(tasks: int) -> None:
    points = SimplexSample([f"t{i}" for i in range(tasks)], count=50).points()
    assert len(set(points)) == 50
    assert np.sum(points, axis=1) == pytest.approx(1)
    assert np.min(points) >= 0.9 * LEAST


def test_drawn_points_fill_the_simplex_evenly() -> None:
    """Each of the four triangles of equal area of the 2-simplex gets its quarter."""
    points = np.array(SimplexSample(NAMES, count=256).points())
    corners = [(points[:, i] > 0.5).mean() for i in range(3)]
    assert [*corners, 1 - sum(corners)] == pytest.approx([0.25] * 4, abs=0.03)


def test_a_longer_draw_begins_with_a_shorter_one() -> None:
    assert SimplexSample(NAMES, count=30).points()[:9] == SimplexSample(NAMES, count=9).points()
