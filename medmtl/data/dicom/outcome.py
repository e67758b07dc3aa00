"""What came of reading one file."""

from __future__ import annotations

from typing import NamedTuple

from medmtl.data.dicom.model import Instance
from medmtl.types import Finding


class Outcome(NamedTuple):
    """What came of one file: an instance, what is wrong with it, or that it is no DICOM at all.

    Attributes:
        instance: the file, if it can be used.
        uid: its SOPInstanceUID; blank where it has none.
        finding: what is wrong with it.
        foreign: it is something else, and was not to be expected to be DICOM.
        wrong: elements of it that make no sense.
    """

    instance: Instance | None = None
    uid: str = ""
    finding: Finding | None = None
    foreign: bool = False
    wrong: tuple[str, ...] = ()
