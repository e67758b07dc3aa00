"""The columns that short-axis cine studies have in common."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from medmtl.data.columns import Column, Derived

GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")
LABELS: Mapping[str, int] = MappingProxyType({"RV": 1, "MYO": 2, "LV": 3})


def cardiac_columns() -> dict[str, Column]:
    """Anatomy mask, disease group, height, weight, and what follows from the mask of a short-axis cine."""

    def derived(name: str, quantity: Any, structure: str, unit: str, frame: Any = None) -> Column:
        return Column(name, "value", unit=unit, derived=Derived(quantity, "anatomy", structure, frame))

    columns = [
        Column("anatomy", "mask", labels=LABELS),
        Column("disease", "category", classes=GROUPS),
        Column("height", "value", unit="cm"),
        Column("weight", "value", unit="kg"),
        derived("LV_EDV", "volume", "LV", "mL", "ED"),
        derived("LV_ESV", "volume", "LV", "mL", "ES"),
        derived("LV_SV", "stroke_volume", "LV", "mL"),
        derived("LV_EF", "ejection_fraction", "LV", "%"),
        derived("RV_EDV", "volume", "RV", "mL", "ED"),
        derived("RV_ESV", "volume", "RV", "mL", "ES"),
        derived("RV_EF", "ejection_fraction", "RV", "%"),
        derived("MYO_mass", "mass", "MYO", "g", "ED"),
    ]
    return {column.name: column for column in columns}
