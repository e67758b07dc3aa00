"""What the columns of a dataset mean, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Kind = Literal["mask", "map", "category", "value"]
Quantity = Literal["volume", "mass", "ejection_fraction", "stroke_volume"]
Frame = Literal["ED", "ES"]

UNIT_OF: Mapping[str, str] = MappingProxyType(
    {"volume": "mL", "mass": "g", "ejection_fraction": "%", "stroke_volume": "mL"}
)
"""The unit that each derived quantity is computed in."""


@dataclass(frozen=True)
class Derived:
    """A value that follows from a mask.

    Attributes:
        quantity: what is measured; its unit is ``UNIT_OF[quantity]``.
        mask: the mask column that it is measured on.
        structure: a label of that mask.
        frame: cardiac phase of a volume or mass; None where a case has one frame, and for what needs both.
    """

    quantity: Quantity
    mask: str
    structure: str
    frame: Frame | None = None


@dataclass(frozen=True)
class Column:
    """One label or covariate of a dataset.

    Attributes:
        name: the column of ``cases.csv``.
        kind: mask and map cells name a file, category and value cells hold the label itself.
        labels: voxel value of each structure (mask only).
        classes: names in their order (category only).
        unit: of a map's voxels or of a value.
        derived: how to compute a value from a mask where its cell is blank.
    """

    name: str
    kind: Kind
    labels: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    unit: str = ""
    derived: Derived | None = None


@dataclass(frozen=True)
class Cycle:
    """Where ED and ES are not given, they are the frames of this structure's largest and smallest volume."""

    mask: str
    structure: str


@dataclass(frozen=True)
class Schema:
    """The whole of ``dataset.yaml``."""

    name: str
    modality: str
    channels: tuple[str, ...]
    columns: Mapping[str, Column]
    cycle: Cycle | None = None
    citation: str = ""
    licence: str = ""

    @property
    def image_columns(self) -> tuple[str, ...]:
        """The ``cases.csv`` column of each channel: ``image``, or ``image_<channel>`` where several."""
        if len(self.channels) == 1:
            return ("image",)
        return tuple(f"image_{channel}" for channel in self.channels)

    @property
    def csv_columns(self) -> tuple[str, ...]:
        """All columns of ``cases.csv``, in the order in which they are written."""
        return ("case_id", "patient", "split", *self.image_columns, "frame_ed", "frame_es", *self.columns)
