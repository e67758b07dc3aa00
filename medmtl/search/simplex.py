"""Fixed task weights that sum to 1: every point of a grid, or points drawn evenly where that is too many.

Source: linear scalarization as a baseline that is searched, as in Xin et al., "Do current multi-task
optimization methods in deep learning even help?", NeurIPS 2022, and Kirchdorfer et al., GCPR 2024, whose
three tasks on a grid of tenths have 36 points.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from math import comb
from typing import Any

import numpy as np

from medmtl.search.rounds import Strategy, Tried
from medmtl.search.space import Number, check_several, spread
from medmtl.types import ConfigError

RESOLUTION = 10
LEAST = 1e-3
"""Least weight of a drawn point, so that no task is left out."""


def grid_size(tasks: int, resolution: int) -> int:
    """Number of points with K positive weights in steps of 1 / n that sum to 1: C(n - 1, K - 1)."""
    return comb(resolution - 1, tasks - 1)


class _Simplex(Strategy):
    """Points on the simplex, all in one round, since none depends on another's result."""

    def __init__(self, names: Sequence[str]) -> None:
        check_several(names)
        self.names = tuple(names)
        self.space = {name: Number(0.0, 1.0) for name in self.names}

    def size(self, number: int) -> int:
        """All points in the first round."""
        return self.total() if number == 0 else 0

    @abstractmethod
    def total(self) -> int:
        """How many points there are."""

    def propose(self, number: int, history: Sequence[Tried]) -> list[dict[str, Any]]:
        """See `Strategy.propose`."""
        return [dict(zip(self.names, point, strict=True)) for point in self.points()]

    @abstractmethod
    def points(self) -> list[tuple[float, ...]]:
        """All of them, each ``(K,)`` with sum 1, in the order in which they are tried."""


class SimplexGrid(_Simplex):
    """Every point with positive weights in steps of 1 / resolution, in a shuffled order.

    Shuffled, so that a search that is stopped early has looked everywhere.

    Args:
        names: of the K weights.
        resolution: n, at least K.
        seed: of the order.

    Raises:
        ConfigError: one task only, or a resolution below the number of tasks.
    """

    def __init__(self, names: Sequence[str], *, resolution: int = RESOLUTION, seed: int = 0) -> None:
        super().__init__(names)
        if resolution < len(self.names):
            raise ConfigError(
                f"a grid in steps of 1/{resolution} has no point with {len(self.names)} positive weights; "
                f"give a resolution of {len(self.names) + 1} or more"
            )
        self.resolution, self.seed = resolution, seed

    def total(self) -> int:
        """See `grid_size`."""
        return grid_size(len(self.names), self.resolution)

    def points(self) -> list[tuple[float, ...]]:
        """The grid."""
        found = list(_compositions(self.resolution, len(self.names)))
        np.random.default_rng(self.seed).shuffle(found)
        return [tuple(part / self.resolution for part in point) for point in found]


class SimplexSample(_Simplex):
    """Points that fill the simplex evenly, as many as are asked for: Dirichlet(1) from a Sobol sequence.

    A longer search begins with the points of a shorter one.

    Args:
        names: of the K weights.
        count: number of points.
        seed: of the sequence.

    Raises:
        ConfigError: one task only, or no point.
    """

    def __init__(self, names: Sequence[str], *, count: int, seed: int = 0) -> None:
        super().__init__(names)
        if count < 1:
            raise ConfigError(f"{count} points are none; ask for one at least")
        self.count, self.seed = count, seed

    def total(self) -> int:
        """As asked for."""
        return self.count

    def points(self) -> list[tuple[float, ...]]:
        """Drawn ones: logarithms of uniform numbers, divided by their sum, are even on the simplex."""
        drawn = spread(self.count, len(self.names), self.seed)
        shares = -np.log(np.clip(drawn, 1e-12, 1 - 1e-12))
        shares = shares / shares.sum(1, keepdims=True)
        shares = np.maximum(shares, LEAST)
        return [_rounded(point) for point in shares / shares.sum(1, keepdims=True)]


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to write a number as an ordered sum of positive ones."""
    for bars in combinations(range(1, total), parts - 1):
        edges = (0, *bars, total)
        yield tuple(high - low for low, high in pairwise(edges))


def _rounded(point: np.ndarray) -> tuple[float, ...]:
    """Four decimals; the greatest weight takes what rounding leaves, so that they still sum to 1."""
    values = [round(float(weight), 4) for weight in point]
    greatest = int(np.argmax(values))
    values[greatest] = round(1.0 - sum(v for i, v in enumerate(values) if i != greatest), 4)
    return tuple(values)
