"""Label arrays as DICOM Segmentation files that lie on their images, frame by frame.

highdicom makes the object: patient, study, equipment, segments, algorithm. Its frames are written here, since
highdicom knows images by their positions alone, so that all phases of a cine would stand for each other, and
takes images of one series and one frame of reference only.

Sources: DICOM PS3.3 A.51 (Segmentation IOD), C.8.20 (Segmentation modules), C.7.6.16 (functional groups,
dimensions), C.7.6.16.2.6 (derivation image).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medmtl.data.dicom.decode import quiet
from medmtl.data.dicom.model import Instance
from medmtl.data.dicom.seg import Code
from medmtl.inference.dicom.canvas import Canvas
from medmtl.inference.dicom.check import check_seg
from medmtl.inference.dicom.codes import Algorithm, Hides, Kind, Planned, Segment
from medmtl.inference.dicom.concepts import ARTIFICIAL_INTELLIGENCE, text
from medmtl.inference.dicom.drawing import as_frames, check_values, drawn, segment_numbers
from medmtl.inference.dicom.groups import Groups, dimensions, element, shared_groups
from medmtl.inference.dicom.hiding import hide_dates
from medmtl.inference.dicom.origin import (
    Names,
    equipment,
    identity,
    instances_of,
    made_uid,
    require_highdicom,
    series_number,
    template,
)

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept
    from pydicom.dataset import Dataset


_PER_FRAME, _PIXEL_DATA = 0x52009230, 0x7FE00010


@dataclass(frozen=True, eq=False)
class Made:
    """An object to write.

    Attributes:
        head: all but its frames.
        frames: PerFrameFunctionalGroupsSequence and PixelData, encoded: the last elements of a file.
    """

    head: Dataset
    frames: bytes

    def save(self, path: Path) -> None:
        """Write the file."""
        with path.open("wb") as stream:
            self.head.save_as(stream, enforce_file_format=True)
            stream.write(self.frames)


def write_seg(
    path: Path,
    subject: Planned,
    labels: NDArray[Any],
    segments: Sequence[Segment],
    *,
    algorithm: Algorithm,
    kind: Kind = "binary",
    hides: Hides | None = None,
) -> None:
    """Write a label array as a DICOM Segmentation, read it again and compare it with array and images.

    A binary file holds the frames of each segment where it has voxels; a phase in which nothing was found
    keeps one empty frame, so that it can be told from one that nobody looked at. Written twice of the same
    labels by the same model, it has the same UIDs.

    Args:
        path: the file; it appears under this name only when it was found right.
        subject: whose ``plans`` the labels lie on: the first; images of all are named as sources.
        labels: voxel values ``(T, X, Y, Z)``, or ``(X, Y, Z)``, on the grid of the first plan.
        segments: what the values stand for; 0 is background.
        algorithm: what made them.
        kind: ``binary``: a bit per voxel and segment, which all viewers read; ``labelmap``: the values.
        hides: replaces UIDs, patient and dates by keyed hashes; None keeps the source's.

    Raises:
        ConfigError: highdicom is not installed.
        CaseError: ``LABEL_VALUES`` (a value without a segment), ``MISSING_GEOMETRY``, ``UNDECODABLE`` (the
            images lack UIDs or cannot be read again), ``LABEL_GEOMETRY_MISMATCH`` (the file read again does
            not hold these labels on these images).
        OSError: the file cannot be written.
    """
    require_highdicom()
    canvas, names = Canvas(subject.plans[0]), Names(hides)
    labels = as_frames(labels, canvas)
    check_values(labels, segments)
    with quiet():
        made = _made(canvas, subject, labels, segments, algorithm, kind, names)
    part = path.with_name(f".{path.name}.part")
    try:
        made.save(part)
        check_seg(part, subject, labels, segments, kind=kind, hides=hides)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _made(
    canvas: Canvas,
    subject: Planned,
    labels: NDArray[Any],
    segments: Sequence[Segment],
    algorithm: Algorithm,
    kind: Kind,
    names: Names,
) -> Made:
    """The whole object in memory."""
    plan = canvas.plan
    source = template(plan, names)
    stack = np.ascontiguousarray(labels.transpose(0, 3, 2, 1))  # (T, Z, rows, columns)
    digest = blake2b(stack.data, digest_size=16).hexdigest()
    which = (source.SeriesInstanceUID, source.SOPInstanceUID, algorithm, kind)
    uid = made_uid("SEG", *which, digest, *segments)
    made = _object(source, series_number(plan, 1), segments, algorithm, kind, names, uid)
    drawings, pixels = drawn(canvas, stack, segments, kind)
    sheets = {(d.sheet.t, d.sheet.z): d.sheet for d in drawings}
    numbers = segment_numbers(segments, kind)
    groups = Groups(canvas, names, numbers if kind == "binary" else {}, list(sheets.values()))
    made.DimensionOrganizationSequence, made.DimensionIndexSequence = dimensions(
        made.SOPInstanceUID, of_segments=kind == "binary", of_phases=canvas.shape[0] > 1
    )
    made.SharedFunctionalGroupsSequence = [shared_groups(canvas, groups)]
    made.NumberOfFrames = len(drawings)
    del made.PerFrameFunctionalGroupsSequence, made.PixelData
    if "DimensionOrganizationType" in made:
        del made.DimensionOrganizationType
    made.ContentCreatorName = ""  # no person
    _refer(made, instances_of(subject.plans), names)
    if names.hides is not None:
        hide_dates(made)
    items = b"".join(groups.of(d.sheet, d.segment) for d in drawings)
    words = b"OW" if made.BitsAllocated > 8 else b"OB"
    assert max(made.keys()) < _PER_FRAME, "frames are not the last elements"
    return Made(made, element(_PER_FRAME, b"SQ", items) + element(_PIXEL_DATA, words, pixels))


def _object(
    source: Dataset,
    number: int,
    segments: Sequence[Segment],
    algorithm: Algorithm,
    kind: Kind,
    names: Names,
    uid: str,
) -> Dataset:
    """Everything but the frames, by highdicom, made of one empty plane."""
    import highdicom

    numbers = segment_numbers(segments, kind)
    identification = highdicom.AlgorithmIdentificationSequence(
        name=text(algorithm.name, 64) or "medmtl",
        family=coded(ARTIFICIAL_INTELLIGENCE),
        version=text(algorithm.version, 64) or "0",
        source="medmtl",
        parameters={"digest": algorithm.digest} if algorithm.digest else None,
    )
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=numbers[segment.number],
            segment_label=text(segment.name, 64) or f"segment {segment.number}",
            segmented_property_category=coded(segment.category),
            segmented_property_type=coded(segment.code),
            algorithm_type="AUTOMATIC",
            algorithm_identification=identification,
            tracking_uid=tracking_uid(source.StudyInstanceUID, algorithm, segment.name),
            tracking_id=text(segment.name, 64) or f"segment {segment.number}",
            anatomic_regions=[coded(segment.site)] if segment.site is not None else None,
            display_color=highdicom.color.CIELabColor.from_rgb(*segment.color),
        )
        for segment in sorted(segments, key=lambda segment: segment.number)
    ]
    return highdicom.seg.Segmentation(
        source_images=[source],
        pixel_array=np.zeros((1, source.Rows, source.Columns), np.uint8),
        segmentation_type=kind.upper(),
        omit_empty_frames=False,
        segment_descriptions=described,
        series_instance_uid=made_uid("SEG series", source.SeriesInstanceUID, algorithm, kind),
        series_number=number,
        sop_instance_uid=uid,
        instance_number=1,
        content_label="SEGMENTATION",
        content_description=text(f"Segmentation by {algorithm.name}", 64),
        series_description=text(f"Segmentation by {algorithm.name}", 64),
        **equipment(algorithm, names),
    )


def tracking_uid(study_uid: str, algorithm: Algorithm, name: str) -> str:
    """Of a structure in a study, as one model sees it: the same in segmentation and report."""
    return made_uid("tracked", study_uid, algorithm, name)


def coded(code: Code) -> CodedConcept:
    """As highdicom takes it."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def _refer(made: Dataset, instances: Sequence[Instance], names: Names) -> None:
    """Names every source image, by its series."""
    from pydicom.dataset import Dataset

    by_series: dict[str, list[Dataset]] = {}
    for instance in instances:
        sop_class, uid, series = identity(instance)
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, names.uid(uid)
        by_series.setdefault(names.uid(series), []).append(item)
    made.SourceImageSequence = [item for items in by_series.values() for item in items]
    made.ReferencedSeriesSequence = [_series(uid, items) for uid, items in by_series.items()]


def _series(uid: str, items: Sequence[Dataset]) -> Dataset:
    from pydicom.dataset import Dataset

    made = Dataset()
    made.SeriesInstanceUID, made.ReferencedInstanceSequence = uid, list(items)
    return made
