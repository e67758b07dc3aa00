"""The evolution strategy: finds the region of a known optimum, and tries nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from medmtl.search import Choice, Evolution, Number, Tried
from medmtl.search.tabu import DECADES, Tabu
from medmtl.search.uphill import uphill
from medmtl.types import ConfigError
from tests.helpers.search_worker import TARGET, objective, strategies

Objective = Callable[[Mapping[str, Any]], float | None]


def run(search: Evolution, value: Objective, rounds: int) -> list[Tried]:
    history: list[Tried] = []
    for number in range(rounds):
        history += [
            Tried(len(history) + i, params, value(params))
            for i, params in enumerate(search.propose(number, history))
        ]
    return history


def evolution(seed: int = 0, **options: Any) -> Evolution:
    space = {name: Number(0.1, 1000.0, log=True) for name in TARGET}
    return Evolution(space, weights=list(TARGET), seed=seed, **options)


def of_weights(params: Mapping[str, Any]) -> float:
    return objective({**params, "every.b": 3, "loss": "focal"})


def best(history: list[Tried]) -> float:
    return max(tried.value for tried in history if tried.value is not None)


@pytest.mark.parametrize("option", ["initial", "children", "parents"])
def test_a_population_of_none_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        evolution(**{option: 0})


def test_nothing_to_search_along_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to search along"):
        Evolution({})


def test_a_weight_that_could_be_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a range above 0"):
        Evolution({"w": Number(0, 1)}, weights=["w"])


def test_the_papers_settings_are_the_defaults() -> None:
    """Leang et al. 2020: initial population 4, 4 new configurations per round, 2 parents."""
    search = evolution()
    assert (search.initial, search.children, search.parents) == (4, 4, 2)
    assert [search.size(number) for number in range(3)] == [4, 4, 4]
    assert search.total() is None


@pytest.mark.parametrize("reaches", [None, 0.5])
def test_a_search_whose_trials_all_fail_or_all_are_alike_goes_on(reaches: float | None) -> None:
    history = run(evolution(), lambda _: reaches, rounds=5)
    assert len(history) == 20


def test_the_given_configuration_is_the_first() -> None:
    first = dict.fromkeys(TARGET, 1.0)
    assert evolution(first=first).propose(0, [])[0] == first


def test_a_round_is_the_same_wherever_it_is_worked_out_and_another_with_another_seed() -> None:
    history = run(evolution(), of_weights, rounds=3)
    assert evolution().propose(3, history) == evolution().propose(3, list(history))
    assert evolution().propose(3, history) != evolution(seed=1).propose(3, history)


@pytest.mark.parametrize("seed", range(4))
def test_it_finds_the_weights_of_a_known_optimum(seed: int) -> None:
    """Ratios 1 : 10 : 50 among ranges of four decades; a miss by a factor of 2 in one weight costs 0.03."""
    assert best(run(evolution(seed), of_weights, rounds=12)) > 0.9


def test_it_finds_numbers_frequencies_and_choices_together_and_better_than_chance() -> None:
    rng = np.random.default_rng(0)
    found, drawn = [], []
    for seed in range(6):
        search = strategies(seed)["evolution"]
        assert isinstance(search, Evolution)
        found.append(best(run(search, objective, rounds=10)))
        drawn.append(max(objective(_draw(search, rng)) for _ in range(40)))
    assert np.mean(found) > np.mean(drawn) + 0.1
    assert np.mean(found) > 0.75


def _draw(search: Evolution, rng: np.random.Generator) -> dict[str, Any]:
    return {
        name: over.options[rng.integers(len(over.options))]
        if isinstance(over, Choice)
        else over.at(rng.random())
        for name, over in search.space.items()
    }


def test_no_region_is_tried_twice() -> None:
    history = run(evolution(), of_weights, rounds=15)
    logs = np.log10([[tried.params[name] for name in TARGET] for tried in history])
    apart = np.ptp(logs[:, None] - logs[None], axis=-1) + np.eye(len(history))
    assert apart.min() > DECADES


def test_a_space_that_is_used_up_ends_the_search_after_every_configuration() -> None:
    search = strategies()["whole"]
    assert isinstance(search, Evolution)
    history = run(search, objective, rounds=5)
    assert len({repr(tried.params) for tried in history}) == len(history) == 12


def test_weights_are_one_region_by_their_ratios_alone() -> None:
    tabu = Tabu({"a": Number(0.1, 100, log=True), "b": Number(0.1, 100, log=True)}, ["a", "b"])
    tabu.add({"a": 1.0, "b": 10.0})
    assert tabu.hits({"a": 10.0, "b": 100.0})
    assert tabu.hits({"a": 1.0, "b": 11.0})
    assert not tabu.hits({"a": 1.0, "b": 15.0})


def test_whole_numbers_and_choices_are_regions_of_their_own() -> None:
    tabu = Tabu({"n": Number(1, 1000, whole=True), "c": Choice(("x", "y"))})
    tabu.add({"n": 500, "c": "x"})
    assert tabu.hits({"n": 500, "c": "x"})
    assert not tabu.hits({"n": 501, "c": "x"})
    assert not tabu.hits({"n": 500, "c": "y"})


def test_uphill_is_the_gradient_of_a_plane() -> None:
    rng = np.random.default_rng(0)
    places, slope = rng.random((12, 3)), np.array([3.0, 0.0, -4.0])
    found = uphill(places, places @ slope, np.full(3, 0.5))
    assert found is not None
    assert found == pytest.approx(slope / 5, abs=0.05)


def test_uphill_is_not_misled_by_rounds_that_train_on() -> None:
    """With weight transfer every round starts higher than the one before, whatever is tried in it."""
    rng = np.random.default_rng(0)
    rounds = np.repeat([0, 1, 2], 4)
    places = np.clip(0.2 + 0.3 * rounds[:, None] + 0.1 * rng.random((12, 2)), 0, 1)
    values = places @ [-1.0, 0.0] + 5.0 * rounds
    found = uphill(places, list(values), np.full(2, 0.5), list(rounds))
    misled = uphill(places, list(values), np.full(2, 0.5))
    assert found is not None
    assert misled is not None
    assert found[0] < -0.9
    assert misled[0] > 0


def test_uphill_says_nothing_of_two_points_or_a_plain() -> None:
    assert uphill(np.eye(2), [1.0, 2.0], np.zeros(2)) is None
    assert uphill(np.random.default_rng(0).random((5, 2)), [1.0] * 5, np.zeros(2)) is None
    assert uphill(np.zeros((5, 2)), [1.0, 2.0, 3.0, 4.0, 5.0], np.zeros(2)) is None
