"""Regions of a DICOM structure set (RTSTRUCT) as contours in the patient; ``rtmasks.py`` makes masks of them.

Source: DICOM PS3.3 A.19.3 (RT Structure Set IOD), C.8.8.5 and C.8.8.6 (Structure Set, ROI Contour modules).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.header import Header
from medmtl.data.dicom.model import Instance
from medmtl.types import CaseError


@dataclass(frozen=True, eq=False)
class Outline:
    """One contour of a region.

    Attributes:
        type: ContourGeometricType.
        points: ``(N, 3)`` LPS mm.
        images: SOPInstanceUID and 0-based frame (None: not said) of the images that it was drawn on.
    """

    type: str
    points: NDArray[np.float64]
    images: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, eq=False)
class Region:
    """A region of interest.

    Attributes:
        number: ROINumber.
        label: ROIName.
        kind: RTROIInterpretedType, such as ``GTV`` or ``ORGAN``; blank where not said.
        outlines: its contours.
    """

    number: int
    label: str
    kind: str
    outlines: tuple[Outline, ...]


@dataclass(frozen=True, eq=False)
class StructureSet:
    """A structure set.

    Attributes:
        name: its file, for messages.
        regions: in the order of the file, those without a contour too.
        study_uid: StudyInstanceUID.
        series_uids: SeriesInstanceUID of the images that it says it belongs to.
        patient: the key of `VolumePlan.patient`.
    """

    name: str
    regions: tuple[Region, ...]
    study_uid: str
    series_uids: frozenset[str]
    patient: str

    def region(self, number: int) -> Region:
        """The region of a number.

        Raises:
            CaseError: ``LABEL_VALUES``: there is none.
        """
        for region in self.regions:
            if region.number == number:
                return region
        known = ", ".join(f"{region.number} ({region.label})" for region in self.regions)
        raise CaseError("LABEL_VALUES", f"{self.name}: has no region {number}; known are {known}")


def read_structures(instance: Instance) -> StructureSet:
    """Reads all regions of a structure set.

    Raises:
        CaseError: ``UNDECODABLE``: the file has no regions, or a contour's points are not triples of numbers.
    """
    header, name = instance.header, instance.source.label
    described = {
        item.get("ROINumber"): item.get("ROIName") or ""
        for item in header.get("StructureSetROISequence") or ()
    }
    if not described:
        raise CaseError("UNDECODABLE", f"{name}: the structure set has no regions; export it again")
    kinds = {
        item.get("ReferencedROINumber"): item.get("RTROIInterpretedType") or ""
        for item in header.get("RTROIObservationsSequence") or ()
    }
    drawn = {
        item.get("ReferencedROINumber"): item.get("ContourSequence") or ()
        for item in header.get("ROIContourSequence") or ()
    }
    regions = tuple(
        Region(
            number=int(number),
            label=label or f"region {number}",
            kind=kinds.get(number, ""),
            outlines=tuple(_outline(name, label, item) for item in drawn.get(number, ())),
        )
        for number, label in described.items()
        if number is not None
    )
    return StructureSet(
        name=name,
        regions=regions,
        study_uid=header.get("StudyInstanceUID") or "",
        series_uids=frozenset(_series_uids(header)),
        patient=header.get("Patient.Key") or "",
    )


def _outline(name: str, label: str, item: Header) -> Outline:
    data = item.get("ContourData") or ()
    if len(data) % 3:
        raise CaseError(
            "UNDECODABLE", f"{name}, region {label!r}: {len(data)} coordinates are no points (x, y, z)"
        )
    return Outline(
        type=item.get("ContourGeometricType") or "",
        points=np.array(data, dtype=np.float64).reshape(-1, 3),
        images=tuple(_images(item)),
    )


def _images(item: Header) -> Iterator[tuple[str, int | None]]:
    for image in item.get("ContourImageSequence") or ():
        if (uid := image.get("ReferencedSOPInstanceUID")) is None:
            continue
        for number in image.get("ReferencedFrameNumber") or (None,):
            yield uid, None if number is None else int(number) - 1


def _series_uids(header: Header) -> Iterator[str]:
    for frame in header.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                if (uid := series.get("SeriesInstanceUID")) is not None:
                    yield uid
