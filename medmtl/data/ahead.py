"""Samples made in threads before they are asked for; which they are does not depend on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Made = TypeVar("Made")
THREADS = 4
"""Reading and unpacking of that many samples goes on side by side."""


class Ahead(Generic[Made]):
    """The results of a step's parts, with those of the next steps under way.

    Args:
        parts: what makes each part of a step.
        steps: how many steps to be ahead.
    """

    def __init__(self, parts: Callable[[int], Sequence[Callable[[], Made]]], steps: int) -> None:
        self._parts, self._steps = parts, steps
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="medmtl-batches")
        self._begun: dict[int, list[Future[Made]]] = {}

    def get(self, step: int) -> list[Made]:
        """The parts of a step; the next ones are begun, and steps that are not among them forgotten."""
        wanted = range(step, step + 1 + self._steps)
        for other in [known for known in self._begun if known not in wanted]:
            for future in self._begun.pop(other):
                future.cancel()
        for one in wanted:
            if one not in self._begun:
                self._begun[one] = [self._pool.submit(part) for part in self._parts(one)]
        return [future.result() for future in self._begun.pop(step)]
