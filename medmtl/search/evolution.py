"""Evolutionary meta-learning of task weights.

Source: Leang et al., "Dynamic task weighting methods for multi-task networks in autonomous driving systems",
ITSC 2020: an evolution strategy over task weights on an exponential scale, together with other numeric and
categorical variables, with gradient information toward the metric and a tabu list; the target is the
geometric mean of the tasks' metrics; weight transfer (a candidate continues from the best model so far);
task-wise asynchronous update frequencies 1 to 10, rounded, searched along. Theirs are the defaults: weights
from 0.1 to 1000 and from 0.1 to 100, an initial population of 4, 4 new configurations per round, 2 parents.

What the paper leaves open is decided here: parents are the best of all that was tried; a child lies between
two parents, and steps from there; every other child steps along the slope of a plane through the tried
points; steps grow when a round improved on the best and shrink when it did not; a region is as wide as
`medmtl.search.tabu` says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medmtl.search.rounds import Params, Strategy, Tried
from medmtl.search.space import Choice, Number, Space, spread
from medmtl.search.tabu import Tabu
from medmtl.search.uphill import uphill
from medmtl.types import ConfigError

INITIAL, CHILDREN, PARENTS = 4, 4, 2
FIRST_STEP, LEAST_STEP, GREATEST_STEP = 0.2, 0.03, 0.4
"""Standard deviation of a step in units of a variable's range."""
LONGER, SHORTER = 1.25, 0.8
DRAWS, ALL = 200, 20_000
"""Draws before the space is taken for used up, and configurations that are looked through then."""


@dataclass(frozen=True)
class _Parent:
    """Numbers as places ``(D,)``, choices as positions ``(C,)``, and what they reached."""

    places: np.ndarray
    picks: np.ndarray
    value: float


class Evolution(Strategy):
    """An evolution strategy in rounds: a first population, then children of the best so far.

    Args:
        space: what is searched along.
        weights: names in ``space`` of the task weights; they act by their ratios only.
        initial: configurations of the first round.
        children: configurations of each later round.
        parents: how many of the best children descend from.
        continues: each child goes on from the best model of the rounds before (weight transfer).
        first: the first configuration of all, such as equal weights; drawn like the others by default.
        seed: of every draw.

    Raises:
        ConfigError: a number below 1, nothing to search along, or a weight that is no number above 0.
    """

    def __init__(
        self,
        space: Space,
        *,
        weights: Sequence[str] = (),
        initial: int = INITIAL,
        children: int = CHILDREN,
        parents: int = PARENTS,
        continues: bool = False,
        first: Params | None = None,
        seed: int = 0,
    ) -> None:
        if min(initial, children, parents) < 1:
            raise ConfigError(
                "an evolution needs an initial population, children and parents of 1 or more; found "
                f"{initial}, {children} and {parents}"
            )
        if not space:
            raise ConfigError("there is nothing to search along")
        for name in weights:
            over = space[name]
            if not (isinstance(over, Number) and over.low > 0):
                raise ConfigError(f"{name} is a task weight, so it needs a range above 0; found {over!r}")
        self.space, self.weights = dict(space), tuple(weights)
        self.numbers = {name: over for name, over in space.items() if isinstance(over, Number)}
        self.choices = {name: over for name, over in space.items() if isinstance(over, Choice)}
        self.initial, self.children, self.parents = initial, children, parents
        self.continues, self.first, self.seed = continues, first, seed

    def size(self, number: int) -> int:
        """The initial population, then the children of a round; without end."""
        return self.initial if number == 0 else self.children

    def total(self) -> int | None:
        """Without end."""
        return None

    def propose(self, number: int, history: Sequence[Tried]) -> list[dict[str, Any]]:
        """See `Strategy.propose`; fewer, or none, when every region was tried."""
        rng = np.random.default_rng([self.seed, number])
        tabu = Tabu(self.space, self.weights)
        for tried in history:
            tabu.add(tried.params)
        parents = self._parents(history)
        slope = self._slope(history, parents)
        found: list[dict[str, Any]] = []
        for child in range(self.size(number)):
            if len(parents) < min(2, self.parents):
                draws = self._spread(number, child)
            else:
                draws = self._children(parents, slope if child % 2 == 0 else None, self._step(history), rng)
            new = self._first_free(itertools.chain(draws, self._anywhere(rng)), tabu)
            if new is None:
                break
            tabu.add(new)
            found.append(new)
        return found

    def _first_free(self, draws: Iterator[dict[str, Any]], tabu: Tabu) -> dict[str, Any] | None:
        free = next((params for params in draws if not tabu.hits(params)), None)
        if free is not None:
            return free
        whole = all(over.whole for over in self.numbers.values())
        if not whole:
            return None
        ranges: list[Sequence[Any]] = [
            over.options if isinstance(over, Choice) else range(int(over.low), int(over.high) + 1)
            for over in self.space.values()
        ]
        every = itertools.islice(itertools.product(*ranges), ALL)
        named = (dict(zip(self.space, values, strict=True)) for values in every)
        return next((params for params in named if not tabu.hits(params)), None)

    def _parents(self, history: Sequence[Tried]) -> list[_Parent]:
        known = [self._as_parent(tried.params, tried.value) for tried in history if tried.value is not None]
        return sorted(known, key=lambda parent: -parent.value)[: self.parents]

    def _as_parent(self, params: Params, value: float) -> _Parent:
        places = [over.place(params[name]) for name, over in self.numbers.items()]
        picks = [over.options.index(params[name]) for name, over in self.choices.items()]
        return _Parent(np.array(places, float), np.array(picks, int), value)

    def _slope(self, history: Sequence[Tried], parents: Sequence[_Parent]) -> np.ndarray | None:
        if not parents or not self.numbers:
            return None
        known = [tried for tried in history if tried.value is not None]
        places = np.array([self._as_parent(tried.params, 0.0).places for tried in known])
        rounds = None
        if self.continues:
            rounds = [self._round_of(tried.index) for tried in known]
        values = [tried.value for tried in known if tried.value is not None]
        return uphill(places, values, parents[0].places, rounds)

    def _round_of(self, index: int) -> int:
        return 0 if index < self.initial else 1 + (index - self.initial) // self.children

    def _step(self, history: Sequence[Tried]) -> float:
        """Length of a step: longer after a round that found a new best, shorter after one that did not."""
        best: dict[int, float] = {}
        for tried in history:
            if tried.value is not None and tried.index >= 0:
                number = self._round_of(tried.index)
                best[number] = max(best.get(number, -np.inf), tried.value)
        step, reached = FIRST_STEP, -np.inf
        for number in sorted(best):
            if number > 0:
                step *= LONGER if best[number] > reached else SHORTER
            reached = max(reached, best[number])
        return min(max(step, LEAST_STEP), GREATEST_STEP)

    def _spread(self, number: int, child: int) -> Iterator[dict[str, Any]]:
        """The given first, then points that fill the space; also where too few trials succeeded."""
        if number == 0 and child == 0 and self.first is not None:
            yield dict(self.first)
        before = self.initial + (number - 1) * self.children if number else 0
        place = spread(before + child + 1, len(self.space), self.seed)[-1]
        yield self._params(place[: len(self.numbers)], self._picked(place[len(self.numbers) :]))

    def _picked(self, shares: np.ndarray) -> np.ndarray:
        sizes = np.array([len(over.options) for over in self.choices.values()], int)
        return np.minimum((shares * sizes).astype(int), sizes - 1)

    def _children(
        self,
        parents: Sequence[_Parent],
        slope: np.ndarray | None,
        step: float,
        rng: np.random.Generator,
    ) -> Iterator[dict[str, Any]]:
        """Draws around the parents, reaching further with each one that was refused."""
        for draw in range(DRAWS):
            pair = rng.permutation(len(parents))
            one, other = parents[pair[0]], parents[pair[min(1, len(parents) - 1)]]
            share = rng.random()
            places = share * one.places + (1 - share) * other.places
            size = step * (1 + draw / 20)
            noise = rng.normal(size=places.shape)
            if slope is None:
                places = places + size * noise
            else:
                along = abs(rng.normal()) * np.sqrt(len(places))
                places = parents[0].places + size * (along * slope + 0.3 * noise)
            picks = np.where(rng.random(one.picks.shape) < 0.5, one.picks, other.picks)
            if len(picks) and rng.random() < 0.5:
                which = rng.integers(len(picks))
                picks[which] = rng.integers(len(list(self.choices.values())[which].options))
            yield self._params(_reflected(places), picks)

    def _anywhere(self, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        for _ in range(DRAWS):
            yield self._params(rng.random(len(self.numbers)), self._picked(rng.random(len(self.choices))))

    def _params(self, places: np.ndarray, picks: np.ndarray) -> dict[str, Any]:
        values: dict[str, Any] = {
            name: over.at(float(place))
            for (name, over), place in zip(self.numbers.items(), places, strict=True)
        }
        values |= {
            name: over.options[pick] for (name, over), pick in zip(self.choices.items(), picks, strict=True)
        }
        return {name: values[name] for name in self.space}


def _reflected(places: np.ndarray) -> np.ndarray:
    """Places folded back into 0..1, so that the ends are not where most steps end."""
    folded = np.abs(places) % 2
    return np.where(folded > 1, 2 - folded, folded)
