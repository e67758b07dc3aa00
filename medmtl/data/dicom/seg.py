"""DICOM Segmentation files (SEG) as masks on a plan's grid.

Every frame says by itself where it is (position, orientation, spacing), and that alone decides where it goes:
whoever wrote the file may have mirrored, turned, reordered or left out frames. A frame that does not lie on
the image's own pixels is refused with ``LABEL_GEOMETRY_MISMATCH``, or put on the nearest voxels where that is
asked for. Segments that overlap stay apart as long as masks are asked for one by one.

Source: DICOM PS3.3 A.51 (Segmentation IOD), C.8.20 (Segmentation modules), C.7.6.16 (functional groups).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.header import Header
from medmtl.data.dicom.model import Instance
from medmtl.data.dicom.pixels import Frames
from medmtl.types import CaseError

Kind = Literal["BINARY", "FRACTIONAL", "LABELMAP"]


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept, such as (10200004, SCT, "Liver")."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Segment:
    """What one segment stands for.

    Attributes:
        number: SegmentNumber; in a label map, its pixel value.
        label: SegmentLabel, a text for people.
        category: coded category, such as (123037004, SCT, "Body structure").
        type: coded property, such as (10200004, SCT, "Liver").
        algorithm: ``MANUAL``, ``SEMIAUTOMATIC``, ``AUTOMATIC`` or blank.
    """

    number: int
    label: str
    category: Code | None = None
    type: Code | None = None
    algorithm: str = ""


@dataclass(frozen=True, eq=False)
class SegmentFrame:
    """One frame of a segmentation and where it is.

    Attributes:
        index: 0-based frame of the pixel data.
        segment: number of its segment; None in a label map, whose pixels say it.
        position: centre of its first pixel, LPS mm ``(3,)``; None where the file does not say.
        orientation: directions of growing column and row index ``(2, 3)``; None where the file does not say.
        spacing_mm: between rows, between columns.
        step_mm: distance to the next slice that the file states (SpacingBetweenSlices, else SliceThickness).
        sources: SOPInstanceUID and 0-based frame (None: all frames) of the images that it was made from.
    """

    index: int
    segment: int | None
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    spacing_mm: tuple[float, float] | None
    step_mm: float | None
    sources: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmentation file, its pixels not decoded yet.

    Attributes:
        name: its file, for messages.
        kind: ``BINARY``, ``FRACTIONAL`` or ``LABELMAP``.
        fractional_type: of a fractional one, ``PROBABILITY`` or ``OCCUPANCY``, else blank.
        maximum: stored value that stands for 1; 1 where it is binary.
        background: pixel value of a label map that stands for no segment.
        segments: by their numbers.
        frames: in the order of the file.
        shape: ``(rows, columns)`` of a frame.
        study_uid: StudyInstanceUID.
        series_uids: SeriesInstanceUID of the images that it says it belongs to.
        patient: the key of `VolumePlan.patient`.
        pixels: frame index -> stored values ``(rows, columns)``.
    """

    name: str
    kind: Kind
    fractional_type: str
    maximum: int
    background: int
    segments: Mapping[int, Segment]
    frames: tuple[SegmentFrame, ...]
    shape: tuple[int, int]
    study_uid: str
    series_uids: frozenset[str]
    patient: str
    pixels: Callable[[int], NDArray[Any]]

    @property
    def drawn(self) -> tuple[Segment, ...]:
        """Segments that the file describes, the background of a label map left out."""
        background = self.background if self.kind == "LABELMAP" else None
        return tuple(s for s in self.segments.values() if s.number not in (0, background))


def read_segmentation(instance: Instance) -> Segmentation:
    """Reads what a SEG file says about its segments and frames, and decodes no pixels yet.

    Raises:
        CaseError: ``UNDECODABLE`` (not a segmentation, no pixels or no frames), ``LABEL_VALUES`` (a frame of
            a segment that is not described, or a fractional one without a maximum).
    """
    header, name = instance.header, instance.source.label
    kind = header.get("SegmentationType")
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise CaseError("UNDECODABLE", f"{name}: SegmentationType is {kind!r}, so this is no segmentation")
    items = header.get("PerFrameFunctionalGroupsSequence") or ()
    rows, columns = header.get("Rows"), header.get("Columns")
    if not items or instance.pixels is None or not rows or not columns:
        raise CaseError("UNDECODABLE", f"{name}: the segmentation has no frames; export it again")
    if (stated := header.get("NumberOfFrames") or 1) != len(items):
        text = f"has {stated} frame(s) of pixels and describes {len(items)}; export it again"
        raise CaseError("UNDECODABLE", f"{name}: {text}")
    maximum = header.get("MaximumFractionalValue") if kind == "FRACTIONAL" else 1
    if not maximum:
        raise CaseError("LABEL_VALUES", f"{name}: MaximumFractionalValue is missing, so no value can be read")
    shared = next(iter(header.get("SharedFunctionalGroupsSequence") or ()), None)
    segments = {segment.number: segment for segment in _segments(header)}
    frames = tuple(
        _frame(index, tuple(group for group in (item, shared) if group is not None), kind)
        for index, item in enumerate(items)
    )
    for frame in frames:
        if kind != "LABELMAP" and frame.segment not in segments:
            raise CaseError(
                "LABEL_VALUES", f"{name}, frame {frame.index + 1}: no segment {frame.segment} is described"
            )
    padding = header.get("PixelPaddingValue") if kind == "LABELMAP" else None
    return Segmentation(
        name=name,
        kind=kind,
        fractional_type=(header.get("SegmentationFractionalType") or "") if kind == "FRACTIONAL" else "",
        maximum=int(maximum),
        background=0 if padding is None else int(padding),
        segments=segments,
        frames=frames,
        shape=(int(rows), int(columns)),
        study_uid=header.get("StudyInstanceUID") or "",
        series_uids=frozenset(_series_uids(header)),
        patient=header.get("Patient.Key") or "",
        pixels=_reader(instance),
    )


def _reader(instance: Instance) -> Callable[[int], NDArray[Any]]:
    """Frame index -> stored values; the file is looked into when the first frame is asked for."""
    opened: list[Frames] = []

    def read(frame: int) -> NDArray[Any]:
        if not opened:
            opened.append(Frames(instance))
        return opened[0].read(frame)

    return read


def _segments(header: Header) -> Iterator[Segment]:
    for item in header.get("SegmentSequence") or ():
        number = item.get("SegmentNumber")
        if number is None:
            continue
        yield Segment(
            number=int(number),
            label=item.get("SegmentLabel") or f"segment {number}",
            category=_code(item, "SegmentedPropertyCategoryCodeSequence"),
            type=_code(item, "SegmentedPropertyTypeCodeSequence"),
            algorithm=item.get("SegmentAlgorithmType") or "",
        )


def _code(item: Header, keyword: str) -> Code | None:
    code = next(iter(item.get(keyword) or ()), None)
    if code is None:
        return None
    value = code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue") or ""
    return Code(value, code.get("CodingSchemeDesignator") or "", code.get("CodeMeaning") or "")


def _frame(index: int, groups: tuple[Header, ...], kind: str) -> SegmentFrame:
    """A frame from its own functional groups and the shared ones."""
    position = _first(groups, "PlanePositionSequence", "ImagePositionPatient")
    orientation = _first(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = _first(groups, "PixelMeasuresSequence", "PixelSpacing")
    numbers = _first(groups, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    return SegmentFrame(
        index=index,
        segment=None if kind == "LABELMAP" or not numbers else int(numbers[0]),
        position=None if position is None else np.array(position, dtype=np.float64),
        orientation=None if orientation is None else np.array(orientation, dtype=np.float64).reshape(2, 3),
        spacing_mm=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        step_mm=_step(groups),
        sources=tuple(_sources(groups)),
    )


def _first(groups: tuple[Header, ...], sequence: str, keyword: str) -> Any:
    for group in groups:
        for item in group.get(sequence) or ():
            if (value := item.get(keyword)) is not None:
                return value
    return None


def _step(groups: tuple[Header, ...]) -> float | None:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        if (step := _first(groups, "PixelMeasuresSequence", keyword)) is not None and step > 0:
            return float(step)
    return None


def _sources(groups: tuple[Header, ...]) -> Iterator[tuple[str, int | None]]:
    for group in groups:
        for derivation in group.get("DerivationImageSequence") or ():
            for source in derivation.get("SourceImageSequence") or ():
                if (uid := source.get("ReferencedSOPInstanceUID")) is None:
                    continue
                for number in source.get("ReferencedFrameNumber") or (None,):
                    yield uid, None if number is None else int(number) - 1


def _series_uids(header: Header) -> Iterator[str]:
    studies = (header, *(header.get("StudiesContainingOtherReferencedInstancesSequence") or ()))
    for study in studies:
        for series in study.get("ReferencedSeriesSequence") or ():
            if (uid := series.get("SeriesInstanceUID")) is not None:
                yield uid
