"""Functional groups of a segmentation's frames: what each is, where it lies, what it was made from.

Those of single frames are encoded here, as explicit little endian, and not by pydicom, which takes half a
second for the frames of one cine.

Source: DICOM PS3.3 C.7.6.16 and C.8.20.3; PS3.5 7.1.2, 7.5 (elements and sequences as bytes).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from medmtl.inference.dicom.canvas import Canvas, Sheet
from medmtl.inference.dicom.origin import Names, identity, made_uid

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

SEGMENTATION = ("113076", "DCM", "Segmentation")
SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")
_LONG = (b"SQ", b"OB", b"OW")
"""Representations whose length takes four bytes."""


class Groups:
    """Makes the items of the PerFrameFunctionalGroupsSequence, sharing what frames have in common.

    Args:
        canvas: where the frames lie.
        names: of the source images.
        numbers: SegmentNumber by voxel value, in the order of the dimension; empty for a label map.
        sheets: the planes that are written.
    """

    def __init__(
        self, canvas: Canvas, names: Names, numbers: Mapping[int, int], sheets: Sequence[Sheet]
    ) -> None:
        self._names = names
        self._numbers = numbers
        self._phases = canvas.shape[0]
        self.orientation = sheets[0].orientation
        self.one_orientation = all(sheet.orientation == self.orientation for sheet in sheets)
        self._known: dict[tuple[int, int], tuple[bytes, bytes]] = {}

    def of(self, sheet: Sheet, value: int | None) -> bytes:
        """The item of one frame; ``value`` is the voxel value of its segment, None in a label map."""
        index = [sheet.z + 1] if self._phases == 1 else [sheet.t + 1, sheet.z + 1]
        identification = b""
        if value is not None:
            number = self._numbers[value]
            index.insert(0, number)
            identification = sequence(0x0062000A, element(0x0062000B, b"US", struct.pack("<H", number)))
        content = b"" if self._phases == 1 else element(0x00209128, b"UL", struct.pack("<I", sheet.t + 1))
        content += element(0x00209157, b"UL", struct.pack(f"<{len(index)}I", *index))
        sources, place = self._of_sheet(sheet)
        return item(sources + sequence(0x00209111, content) + place + identification)

    def _of_sheet(self, sheet: Sheet) -> tuple[bytes, bytes]:
        """Sources and position, the same for all segments on a plane."""
        key = (sheet.t, sheet.z)
        if key not in self._known:
            place = sequence(0x00209113, element(0x00200032, b"DS", decimals(sheet.position)))
            if not self.one_orientation:
                place += sequence(0x00209116, element(0x00200037, b"DS", decimals(sheet.orientation)))
            self._known[key] = self._derivation(sheet), place
        return self._known[key]

    def _derivation(self, sheet: Sheet) -> bytes:
        """The DerivationImageSequence: how it was made, and of which images."""
        frames: dict[tuple[str, str], list[int]] = {}
        for plane in sheet.sources:
            sop_class, uid, _ = identity(plane.instance)
            several = (plane.instance.header.get("NumberOfFrames") or 1) > 1 or plane.items
            frames.setdefault((sop_class, uid), []).extend([plane.frame + 1] if several else [])
        sources = []
        for (sop_class, uid), numbers in frames.items():
            source = element(0x00081150, b"UI", sop_class) + element(0x00081155, b"UI", self._names.uid(uid))
            if numbers:
                source += element(0x00081160, b"IS", "\\".join(map(str, numbers)))
            source += element(0x0028135A, b"CS", "YES" if sheet.same_pixels else "NO")
            sources.append(source + _code_sequence(0x0040A170, *SOURCE_IMAGE))
        made = sequence(0x00082112, *sources) + _code_sequence(0x00089215, *SEGMENTATION)
        return sequence(0x00089124, made)


def element(tag: int, representation: bytes, value: bytes | str) -> bytes:
    """An element, its value padded to an even length."""
    data = value.encode() if isinstance(value, str) else value
    if len(data) % 2:
        data += b"\0" if representation in (b"UI", b"OB") else b" "
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + representation
    if representation in _LONG:
        return head + struct.pack("<2xI", len(data)) + data
    return head + struct.pack("<H", len(data)) + data


def item(content: bytes) -> bytes:
    """An item of a sequence."""
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def sequence(tag: int, *contents: bytes) -> bytes:
    """A sequence with an item of each content."""
    return element(tag, b"SQ", b"".join(map(item, contents)))


def _code_sequence(tag: int, value: str, scheme: str, meaning: str) -> bytes:
    code = element(0x00080100, b"SH", value) + element(0x00080102, b"SH", scheme)
    return sequence(tag, code + element(0x00080104, b"LO", meaning))


def decimals(values: Sequence[float]) -> str:
    """Decimal strings of several values."""
    return "\\".join(decimal(value) for value in values)


def shared_groups(canvas: Canvas, groups: Groups) -> Dataset:
    """The item of the SharedFunctionalGroupsSequence."""
    spacing = canvas.sheet(0, 0).spacing_mm
    measures = _item(
        _element("SliceThickness", decimal(canvas.thickness_mm)),
        _element("SpacingBetweenSlices", decimal(canvas.step_mm)),
        _element("PixelSpacing", [decimal(value) for value in spacing]),
    )
    elements = [_sequence("PixelMeasuresSequence", measures)]
    if groups.one_orientation:
        elements.append(_sequence("PlaneOrientationSequence", orientation_item(groups.orientation)))
    return _item(*elements)


def orientation_item(cosines: Sequence[float]) -> Dataset:
    """The item of a PlaneOrientationSequence."""
    return _item(_element("ImageOrientationPatient", [decimal(value) for value in cosines]))


def dimensions(uid: str, *, of_segments: bool, of_phases: bool) -> tuple[list[Dataset], list[Dataset]]:
    """DimensionOrganizationSequence and DimensionIndexSequence: segment, then phase, then slice."""
    organization = made_uid("dimensions", uid)
    wanted = [("ImagePositionPatient", "PlanePositionSequence", "Image Position Patient")]
    if of_phases:
        wanted.insert(0, ("TemporalPositionIndex", "FrameContentSequence", "Temporal Position Index"))
    if of_segments:
        wanted.insert(
            0, ("ReferencedSegmentNumber", "SegmentIdentificationSequence", "Referenced Segment Number")
        )
    index = [
        _item(
            _element("DimensionOrganizationUID", organization),
            _element("DimensionIndexPointer", _tag(pointer)),
            _element("FunctionalGroupPointer", _tag(group)),
            _element("DimensionDescriptionLabel", label),
        )
        for pointer, group, label in wanted
    ]
    return [_item(_element("DimensionOrganizationUID", organization))], index


def decimal(value: float) -> str:
    """A decimal string of at most 16 characters: exact where that is enough, else rounded (PS3.5 6.2)."""
    exact = repr(float(value) + 0.0)
    if len(exact) <= 16:
        return exact
    for digits in range(16, 8, -1):
        if len(rounded := f"{value:.{digits}g}") <= 16:
            return rounded
    return f"{value:.9g}"


def _item(*elements: DataElement) -> Dataset:
    from pydicom.dataset import Dataset

    return Dataset({element.tag: element for element in sorted(elements, key=lambda element: element.tag)})


@cache
def _tag(keyword: str) -> int:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    assert tag is not None
    return tag


@cache
def _representation(keyword: str) -> str:
    from pydicom.datadict import dictionary_VR

    return dictionary_VR(_tag(keyword))


def _element(keyword: str, value: Any) -> DataElement:
    from pydicom.dataelem import DataElement

    return DataElement(_tag(keyword), _representation(keyword), value, validation_mode=0)


def _sequence(keyword: str, *items: Dataset) -> DataElement:
    return _element(keyword, list(items))
