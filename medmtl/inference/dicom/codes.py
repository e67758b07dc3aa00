"""What is written into DICOM objects, in coded terms: segments, measurements, evaluations, who made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from medmtl.data.dicom.model import VolumePlan
from medmtl.data.dicom.seg import Code

Kind = Literal["binary", "labelmap"]

COLORS = (
    (230, 25, 75), (60, 180, 75), (0, 130, 200), (255, 225, 25), (245, 130, 48), (145, 30, 180),
    (70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212), (0, 128, 128), (220, 190, 255),
)  # fmt: skip
"""sRGB, one after the other for the segments of a file."""


class Planned(Protocol):
    """What writing needs of a subject: the plan of each channel, the one that labels lie on first."""

    @property
    def plans(self) -> Sequence[VolumePlan]:
        """See the class."""
        ...


class Hides(Protocol):
    """Replaces what tells who a patient is by a keyed hash."""

    def of(self, text: str) -> str:
        """The hash, in hexadecimal digits; the same for the same text."""
        ...


@dataclass(frozen=True)
class Algorithm:
    """What made the objects.

    Attributes:
        name: of the model, for people.
        version: of medmtl.
        digest: of the model's files, hexadecimal; tells one model from another of the same name.
    """

    name: str
    version: str
    digest: str = ""


@dataclass(frozen=True)
class Segment:
    """One structure of a label array.

    Attributes:
        number: its voxel value, 1 or more.
        name: its name in the data set; the label that viewers show.
        code: what it is, such as (10200004, SCT, "Liver").
        category: of what kind, such as (91723000, SCT, "Anatomical Structure").
        site: the structure that it lies in, where it is a tissue of one.
        color: sRGB that viewers may show it in.
    """

    number: int
    name: str
    code: Code
    category: Code
    site: Code | None = None
    color: tuple[int, int, int] = COLORS[0]


@dataclass(frozen=True)
class Measurement:
    """A number, what it is of and how it was found.

    Attributes:
        name: as in the table, such as ``LV_EF``.
        value: finite.
        unit: as UCUM writes it, coded.
        code: what is measured.
        site: where.
        method: how: from masks or by a regression head.
        phase: ``ED``, ``ES``, or blank.
        frame: 0-based frame of the images that it was measured on, where it is one.
        segment: voxel value of the segment that it was measured on, where it is one.
        group: heading of measurements without a segment, such as the task's name.
    """

    name: str
    value: float
    unit: Code
    code: Code
    site: Code | None = None
    method: Code | None = None
    phase: str = ""
    frame: int | None = None
    segment: int | None = None
    group: str = ""


@dataclass(frozen=True)
class Evaluation:
    """A class that a model chose, and how probable it holds each.

    Attributes:
        name: of the task, such as ``disease``.
        value: name of the class.
        code: what is evaluated.
        value_code: the class, coded.
        probabilities: by class name; may be empty.
        codes: of the classes, by name.
    """

    name: str
    value: str
    code: Code
    value_code: Code
    probabilities: Mapping[str, float] = field(default_factory=dict)
    codes: Mapping[str, Code] = field(default_factory=dict)
