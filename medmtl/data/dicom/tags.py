"""Anything that gives DICOM elements by keyword."""

from __future__ import annotations

from typing import Any, Protocol


class Tags(Protocol):
    """A plane or a header, to functions that only want to know what it says."""

    def get(self, keyword: str) -> Any:
        """Value of an element, or None."""
        ...
