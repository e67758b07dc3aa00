"""A search as rounds: what is tried in a round follows from the finished rounds alone.

That is the whole of how searches run in parallel and survive a kill. Trials are numbered by the storage, the
number of a trial says its round and its place in it, and every process works out the same list for a round,
since it waits until the rounds before are over. So no two processes can try the same configuration, nothing
has to be locked, and a trial that was lost is the same trial when it is done again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medmtl.search.space import Space

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Tried:
    """One configuration that was tried.

    Attributes:
        index: its place among all that the strategy proposed, from 0; -1 where a person queued it.
        params: value of every variable; empty where it failed before it was drawn.
        value: the objective, more is better; None where the trial failed or was pruned.
    """

    index: int
    params: Params
    value: float | None


class Strategy(ABC):
    """What to try next.

    Attributes:
        space: what is searched along, by name.
        continues: each trial after the first round starts from the best model of the rounds before.
    """

    space: Space
    continues: bool = False

    @abstractmethod
    def size(self, number: int) -> int:
        """How many configurations the round ``number`` has at most, from 0; 0 when the search is over."""

    @abstractmethod
    def propose(self, number: int, history: Sequence[Tried]) -> list[dict[str, Any]]:
        """The configurations of a round, in order; the same whenever and wherever it is called.

        Args:
            number: of the round.
            history: all that was tried in the rounds before, by index.
        """

    @abstractmethod
    def total(self) -> int | None:
        """How many configurations there are in all; None where there is no end."""

    def locate(self, index: int) -> tuple[int, int] | None:
        """The round of a configuration and the index of the round's first; None beyond the last."""
        number, start = 0, 0
        while (size := self.size(number)) > 0:
            if index < start + size:
                return number, start
            number, start = number + 1, start + size
        return None


def best_of(history: Sequence[Tried]) -> Tried | None:
    """The one with the greatest objective, the earlier of two that are equal."""
    known = [tried for tried in history if tried.value is not None]
    return max(known, key=lambda tried: (tried.value, -tried.index), default=None)
