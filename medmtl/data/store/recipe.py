"""What the arrays of a store depend on besides the files that they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from medmtl.data.columns import Column
from medmtl.data.normalize import plain_normalization
from medmtl.data.prepare import Preparation
from medmtl.data.schema import column_section

FORMAT = 1
"""Version of the store; another one is made anew."""


@dataclass(frozen=True)
class Recipe:
    """How cases become arrays.

    Attributes:
        preparation: spacing, normalization and overview; the patch does not matter.
        columns: the mask and map columns that are prepared.
        spacing_from_pixdim: trust the headers' voxel sizes over their affines.
    """

    preparation: Preparation
    columns: Mapping[str, Column]
    spacing_from_pixdim: bool = False

    def as_plain(self) -> dict[str, Any]:
        """Plain data for ``store.json``."""
        return {
            "spacing_mm": list(self.preparation.spacing_mm),
            "normalization": plain_normalization(self.preparation.normalizations),
            "spacing_from_pixdim": self.spacing_from_pixdim,
            "overview": None if self.preparation.overview is None else list(self.preparation.overview),
            "columns": {name: column_section(column) for name, column in sorted(self.columns.items())},
        }

    def differs_from(self, stored: Mapping[str, Any]) -> str:
        """What a store was made otherwise, in words; blank where its arrays serve this recipe.

        A store with more columns than are needed serves.
        """
        now = self.as_plain()
        for key in ("spacing_mm", "normalization", "spacing_from_pixdim", "overview"):
            if stored.get(key) != now[key]:
                return f"{key} was {stored.get(key)} and is {now[key]}"
        before = stored.get("columns", {})
        for name, section in now["columns"].items():
            if name not in before:
                return f"column {name} was not prepared"
            if before[name] != section:
                return f"column {name} meant something else"
        return ""

    def widened(self, stored: Mapping[str, Any]) -> Recipe:
        """The recipe with the further columns that a store was made with."""
        others = {
            name: Column(name, section["kind"], section.get("labels", {}), unit=section.get("unit", ""))
            for name, section in stored["columns"].items()
            if name not in self.columns
        }
        return replace(self, columns={**self.columns, **others}) if others else self
