"""Files -> planes: classic files hold one, enhanced ones one per frame, Siemens mosaics one per tile."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.enhanced import has_functional_groups, planes_of_enhanced
from medmtl.data.dicom.geometry import directions
from medmtl.data.dicom.model import Instance, Plane
from medmtl.data.dicom.mosaic import MOSAIC, planes_of_mosaic
from medmtl.data.dicom.table import columns_of
from medmtl.types import CaseError, Finding, Severity


class Problems:
    """Problems of single files, told once for all the files that share them.

    Args:
        told: labels of files of which something was said before: that they are no images is not said again.
    """

    def __init__(self, told: Collection[str] = ()) -> None:
        self._of: dict[tuple[str, Severity, str], list[str]] = {}
        self._told = told

    def add(self, code: str, message: str, label: str, severity: Severity = "error") -> None:
        """Notes that the file ``label`` has a problem."""
        if code == "UNDECODABLE" and label in self._told:
            return
        self._of.setdefault((code, severity, message), []).append(label)

    def findings(self) -> list[Finding]:
        """One finding per kind of problem."""
        made = []
        for (code, severity, message), labels in sorted(self._of.items()):
            first = min(labels)
            many = f" ({len(labels)} files)" if len(labels) > 1 else ""
            where = f"{first} and {len(labels) - 1} more" if many else first
            made.append(Finding(code, severity, f"{message}{many}", where))
        return made


def unpack(instances: Iterable[Instance], problems: Problems) -> list[Plane]:
    """The planes of files that hold images; those that cannot be placed go to ``problems``."""
    instances = list(instances)
    planes: list[Plane] = []
    known = _Known()
    columns = columns_of([instance.header for instance in instances])
    for instance, rows, width, frames, groups, shared, kind, position, cosines, spacing in zip(
        instances, *(columns.column(keyword) for keyword in _ASKED), strict=True
    ):
        try:
            if instance.pixels is None:
                raise CaseError("UNDECODABLE", "an image without its pixels; copy or export the file again")
            if not rows or not width:
                raise CaseError("UNDECODABLE", "an image without Rows or Columns; export the file again")
            if (groups or shared) and has_functional_groups(instance.header, frames or 1):
                planes += planes_of_enhanced(instance, frames or 1, known.orientation)
            elif kind is not None and MOSAIC in kind:
                planes += planes_of_mosaic(instance)
            elif (frames or 1) > 1:
                raise CaseError(
                    "MISSING_GEOMETRY", f"{frames} frames in a file that does not say where they are"
                )
            else:
                place = _place(position, known.orientation(cosines), spacing)
                planes.append(Plane(instance, 0, *place, (rows, width)))
        except CaseError as error:
            problems.add(error.code, str(error), instance.source.label)
    return planes


_ASKED = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "SharedFunctionalGroupsSequence",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)


class _Known:
    """Orientations seen before: thousands of planes share one array."""

    def __init__(self) -> None:
        self._by_cosines: dict[Any, NDArray[np.float64] | None] = {}

    def orientation(self, cosines: tuple[float, ...] | None) -> NDArray[np.float64] | None:
        if cosines not in self._by_cosines:
            self._by_cosines[cosines] = directions(cosines)
        return self._by_cosines[cosines]


def _place(
    position: Sequence[float] | None,
    orientation: NDArray[np.float64] | None,
    spacing: tuple[float, float] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, float]]:
    """Position, orientation and spacing of a plane, all three known.

    ImagerPixelSpacing is no substitute for PixelSpacing: it is measured at the detector.
    """
    if position is None:
        raise CaseError("MISSING_GEOMETRY", "ImagePositionPatient is missing or is not three numbers")
    if orientation is None:
        raise CaseError(
            "MISSING_GEOMETRY",
            "ImageOrientationPatient is missing or is not two unit vectors at right angles",
        )
    if spacing is None or min(spacing) <= 0:
        raise CaseError("MISSING_GEOMETRY", "PixelSpacing is missing or is not two sizes above zero")
    return np.array(position, dtype=np.float64), orientation, spacing
