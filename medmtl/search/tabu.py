"""Regions that were tried and are not tried again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medmtl.search.rounds import Params
from medmtl.search.space import Choice, Number, Space

DECADES = 0.05
"""Two weightings are one region where no ratio of two weights differs by more powers of ten (12 %)."""
SHARE = 0.02
"""Two values of another number are one region within this share of its range."""


class Tabu:
    """Tried configurations, each with the region around it.

    Weights are compared as they act, by their ratios: doubling all of them is no new configuration. Whole
    numbers and choices are compared as they are.

    Args:
        space: what is searched along.
        weights: names of the task weights in it.
    """

    def __init__(self, space: Space, weights: Sequence[str] = ()) -> None:
        self.space, self.weights = space, tuple(weights)
        self.exact = [
            name for name, over in space.items() if isinstance(over, Choice) or over.whole
        ]  # a whole number next to another is another configuration
        self.numbers = [name for name in space if name not in {*self.exact, *self.weights}]
        self._tried: list[tuple[np.ndarray, tuple[str, ...]]] = []

    def add(self, params: Params) -> None:
        """Remember a configuration."""
        if params:
            self._tried.append(self._key(params))

    def hits(self, params: Params) -> bool:
        """Whether a configuration lies in a region that was tried."""
        place, exact = self._key(params)
        return any(other == exact and self._is_near(at - place) for at, other in self._tried)

    def _is_near(self, apart: np.ndarray) -> bool:
        logs, places = apart[: len(self.weights)], apart[len(self.weights) :]
        ratios = float(np.ptp(logs)) if len(logs) else 0.0
        return ratios <= 1 and bool(np.all(np.abs(places) <= 1))

    def _key(self, params: Params) -> tuple[np.ndarray, tuple[str, ...]]:
        """Coordinates in units of a region's half width, and what has to be equal."""
        logs = np.log10([float(params[name]) for name in self.weights]) / DECADES
        places = [self._place(name, params[name]) / SHARE for name in self.numbers]
        return np.concatenate([logs, places]), tuple(repr(params[name]) for name in self.exact)

    def _place(self, name: str, value: float) -> float:
        over = self.space[name]
        assert isinstance(over, Number)
        return over.place(value)
