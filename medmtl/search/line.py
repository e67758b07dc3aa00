"""Line search of one number in two stages: a coarse grid, then a finer one around its best point.

Source: the search of the temperature T that goes with UW-SO (Kirchdorfer et al., "Analytical
uncertainty-based loss weighting in multi-task learning", GCPR 2024, section 4 tunes T over 1..100; the
two stages are those of the method's patent). The numbers of points are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medmtl.search.rounds import Strategy, Tried, best_of
from medmtl.search.space import Number
from medmtl.types import ConfigError

COARSE, FINE = 7, 6


class LineSearch(Strategy):
    """First ``coarse`` points over the whole range, then ``fine`` points between the best one's neighbours.

    Points are even on the range's scale; both ends belong to the coarse grid. Where the best coarse point is
    an end of the range, all fine points lie on its one side. Where no coarse trial has a value, there is no
    second stage.

    Args:
        name: what is searched along.
        over: its range.
        coarse: points of the first stage, at least 2.
        fine: points of the second stage; 0 leaves it out.

    Raises:
        ConfigError: too few points.
    """

    def __init__(self, name: str, over: Number, *, coarse: int = COARSE, fine: int = FINE) -> None:
        if coarse < 2 or fine < 0:
            raise ConfigError(f"a line search needs 2 coarse points or more, found {coarse} and {fine} fine")
        self.name, self.over, self.fine = name, over, fine
        self.space = {name: over}
        self.grid = list(dict.fromkeys(over.at(place) for place in np.linspace(0, 1, coarse)))

    def size(self, number: int) -> int:
        """The coarse grid, then the fine one."""
        return (len(self.grid), self.fine, 0)[min(number, 2)]

    def total(self) -> int:
        """Of both stages."""
        return len(self.grid) + self.fine

    def propose(self, number: int, history: Sequence[Tried]) -> list[dict[str, Any]]:
        """See `Strategy.propose`; fewer where whole numbers leave no room between the neighbours."""
        if number == 0:
            return [{self.name: value} for value in self.grid]
        best = best_of([tried for tried in history if 0 <= tried.index < len(self.grid)])
        if best is None:
            return []
        values = (self.over.at(place) for place in self._between(best.index, history))
        new = [value for value in dict.fromkeys(values) if value not in self.grid]
        return [{self.name: value} for value in new]

    def _between(self, at: int, history: Sequence[Tried]) -> list[float]:
        """Places on both sides of the best coarse point; the better neighbour's side gets the odd one."""
        places = [self.over.place(value) for value in self.grid]
        sides = [(places[i], _value_at(i, history)) for i in (at - 1, at + 1) if 0 <= i < len(places)]
        sides.sort(key=lambda side: side[1], reverse=True)
        counts = [self.fine - self.fine // 2, self.fine // 2] if len(sides) == 2 else [self.fine]
        found: list[float] = []
        for (end, _), count in zip(sides, counts, strict=True):
            found += np.linspace(places[at], end, count + 2)[1:-1].tolist()
        return sorted(found)

    def at_an_end(self, value: float) -> bool:
        """Whether a value is an end of the range, beyond which a better one may lie."""
        return value in (self.grid[0], self.grid[-1])


def _value_at(index: int, history: Sequence[Tried]) -> float:
    value = next((tried.value for tried in history if tried.index == index), None)
    return -np.inf if value is None else value
