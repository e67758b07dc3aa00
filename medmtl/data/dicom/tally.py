"""Counts files for a message: how many, and the first few by name."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

EXAMPLES = 3


class Tally:
    """A count with examples, whatever the order in which the files came.

    Attributes:
        count: how many there were.
    """

    def __init__(self, labels: Iterable[str] = ()) -> None:
        self.count = 0
        self._first: list[str] = []
        for label in labels:
            self.add(label)

    @property
    def first(self) -> str:
        """The first label in the order of the alphabet."""
        return self._first[0]

    def add(self, label: str) -> None:
        """Count a file."""
        self.count += 1
        if len(self._first) < EXAMPLES or label < self._first[-1]:
            insort(self._first, label)
            del self._first[EXAMPLES:]

    def of(self, one: str, several: str) -> str:
        """The count with a noun: ``1 file``, ``1,234 files``."""
        return f"{self.count:,} {one if self.count == 1 else several}"

    def examples(self) -> str:
        """Three of them at most, and how many more there are."""
        rest = self.count - len(self._first)
        return ", ".join(self._first) + (f" and {rest:,} more" if rest else "")
