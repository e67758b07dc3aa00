"""Line search: a coarse grid, then points between the neighbours of its best."""

from __future__ import annotations

import math

import pytest

from medmtl.search.line import LineSearch
from medmtl.search.rounds import Tried
from medmtl.search.space import Number
from medmtl.types import ConfigError

TEMPERATURES = Number(1.0, 100.0, log=True)


def run(search: LineSearch, optimum: float) -> list[Tried]:
    history: list[Tried] = []
    for number in (0, 1):
        for params in search.propose(number, history):
            value = -abs(math.log(params[search.name] / optimum))
            history.append(Tried(len(history), params, value))
    return history


@pytest.mark.parametrize(("coarse", "fine"), [(1, 3), (0, 0), (3, -1)])
def test_too_few_points_are_refused(coarse: int, fine: int) -> None:
    with pytest.raises(ConfigError, match="2 coarse points or more"):
        LineSearch("t", TEMPERATURES, coarse=coarse, fine=fine)


def test_without_a_coarse_result_there_is_no_second_stage() -> None:
    search = LineSearch("t", TEMPERATURES)
    failed = [Tried(i, params, None) for i, params in enumerate(search.propose(0, []))]
    assert search.propose(1, failed) == []


def test_the_coarse_grid_is_even_on_the_scale_and_has_both_ends() -> None:
    search = LineSearch("t", TEMPERATURES, coarse=5)
    assert [p["t"] for p in search.propose(0, [])] == [1.0, 3.162, 10.0, 31.62, 100.0]
    assert search.total() == 11
    assert (search.size(0), search.size(1), search.size(2)) == (5, 6, 0)


def test_fine_points_lie_between_the_neighbours_of_the_best_and_are_new() -> None:
    search = LineSearch("t", TEMPERATURES, coarse=5, fine=4)
    history = run(search, optimum=12.0)
    fine = [tried.params["t"] for tried in history[5:]]
    assert fine == pytest.approx([4.642, 6.813, 14.68, 21.54], rel=1e-3)
    assert not set(fine) & set(search.grid)


def test_the_better_neighbours_side_gets_the_odd_point() -> None:
    search = LineSearch("t", TEMPERATURES, coarse=5, fine=3)
    fine = [tried.params["t"] for tried in run(search, optimum=12.0)[5:]]
    assert len([value for value in fine if value > 10]) == 2


def test_at_an_end_all_fine_points_lie_on_the_one_side_and_the_end_is_told() -> None:
    search = LineSearch("t", TEMPERATURES, coarse=5, fine=3)
    history = run(search, optimum=200.0)
    assert all(31.62 < tried.params["t"] < 100 for tried in history[5:])
    assert search.at_an_end(100.0)
    assert not search.at_an_end(31.62)


@pytest.mark.parametrize("optimum", [1.7, 5.0, 20.0, 77.0])
def test_two_stages_come_closer_than_one_grid_of_as_many_points(optimum: float) -> None:
    search = LineSearch("t", TEMPERATURES)
    best = max(run(search, optimum), key=lambda tried: tried.value or -math.inf)
    spacing = math.log(100.0) / (search.total() - 1)
    assert abs(math.log(best.params["t"] / optimum)) < spacing / 2


def test_whole_numbers_are_not_tried_twice() -> None:
    search = LineSearch("batch", Number(1, 8, whole=True), coarse=7, fine=6)
    tried = [t.params["batch"] for t in run(search, optimum=3.0)]
    assert len(tried) == len(set(tried))
