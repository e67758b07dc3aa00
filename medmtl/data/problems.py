"""Collects what is wrong with a dataset, so that one run tells a user everything that has to be mended."""

from __future__ import annotations

from pathlib import Path

from medmtl.types import DatasetError

SHOWN = 10
"""How many problems one message lists."""


class Problems:
    """Sentences about a dataset folder, each with the file, row and column that it is about.

    Args:
        root: the dataset folder, named once at the head of the message.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sentences: list[str] = []

    def add(self, text: str, *, file: str, row: int | None = None, column: str | None = None) -> None:
        """Notes a problem; ``row`` counts as in a spreadsheet, where the header is row 1."""
        where = file
        if row is not None:
            where += f", row {row}"
        if column is not None:
            where += f", column {column!r}"
        self._sentences.append(f"{where}: {text}")

    def __len__(self) -> int:
        return len(self._sentences)

    def raise_if_any(self) -> None:
        """Ends the reading where something is wrong.

        Raises:
            DatasetError: there are problems; the message lists the first of them.
        """
        count = len(self._sentences)
        if count == 0:
            return
        if count == 1:
            raise DatasetError(f"{self.root}: {self._sentences[0]}")
        lines = [f"{self.root}: {count} problems", *(f"- {text}" for text in self._sentences[:SHOWN])]
        if count > SHOWN:
            lines.append(f"- ... and {count - SHOWN} more")
        raise DatasetError("\n".join(lines))
