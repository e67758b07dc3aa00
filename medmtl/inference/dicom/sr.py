"""Measurements and classes as a DICOM structured report (Comprehensive SR, TID 1500).

Source: DICOM PS3.3 A.35.3 (Comprehensive SR), PS3.16 TID 1500.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from medmtl.data.dicom.decode import quiet
from medmtl.data.dicom.model import Instance
from medmtl.inference.dicom.check import reread
from medmtl.inference.dicom.check_sr import check_sr
from medmtl.inference.dicom.codes import Algorithm, Evaluation, Hides, Kind, Measurement, Planned, Segment
from medmtl.inference.dicom.concepts import PRIVATE_SCHEME, text
from medmtl.inference.dicom.drawing import segment_numbers
from medmtl.inference.dicom.hiding import hide_dates, hide_dates_within
from medmtl.inference.dicom.origin import (
    Names,
    equipment,
    identity,
    instances_of,
    is_valid_uid,
    made_uid,
    require_highdicom,
    series_number,
    template,
)
from medmtl.inference.dicom.report import Content, SegmentsOf

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def write_sr(
    path: Path,
    subject: Planned,
    measurements: Sequence[Measurement],
    evaluations: Sequence[Evaluation] = (),
    *,
    algorithm: Algorithm,
    seg: Path | None = None,
    segments: Sequence[Segment] = (),
    hides: Hides | None = None,
) -> bool:
    """Write a measurement report, read it again and compare it with what it was to say.

    Measurements on a segment refer to it where ``seg`` is a binary segmentation, and share its tracking UID
    in any case; those of one phase name its images. Values that are not finite are left out, and so are
    images whose UIDs are not valid: they would make the whole report unreadable to many programs. Written
    twice of the same results, it has the same UIDs.

    Args:
        path: the file; it appears under this name only when it was found right.
        subject: whose ``plans`` the images are.
        measurements: numbers with their codes.
        evaluations: classes with their codes and probabilities.
        algorithm: what measured.
        seg: the segmentation file that ``write_seg`` wrote, or None.
        segments: what was written into it.
        hides: as for ``write_seg``.

    Returns:
        Whether there was anything to write.

    Raises:
        ConfigError: highdicom is not installed.
        CaseError: ``UNDECODABLE`` (the images lack UIDs, a file cannot be read), ``LABEL_VALUES`` (the report
            read again says something else).
        OSError: the file cannot be written.
    """
    require_highdicom()
    finite = [measurement for measurement in measurements if math.isfinite(measurement.value)]
    if not finite and not evaluations:
        return False
    names, plan = Names(hides), subject.plans[0]
    segmentation = _segmentation(seg, segments)
    with quiet():
        source = template(plan, names)
        content = Content(
            plan, source.StudyInstanceUID, finite, evaluations, segments, segmentation, algorithm, names
        )
        made = _made(content, source, instances_of(subject.plans))
    part = path.with_name(f".{path.name}.part")
    try:
        made.save_as(part, enforce_file_format=True)
        check_sr(part, content, str(source.PatientID or ""))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return True


def _segmentation(seg: Path | None, segments: Sequence[Segment]) -> SegmentsOf | None:
    if seg is None:
        return None
    instance = reread(seg)
    kind: Kind = "labelmap" if instance.header.get("SegmentationType") == "LABELMAP" else "binary"
    return SegmentsOf(*identity(instance), segment_numbers(segments, kind), kind)


def _made(content: Content, source: Dataset, instances: Sequence[Instance]) -> Dataset:
    """The whole object in memory."""
    import highdicom
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    algorithm, names = content.algorithm, content.names
    said = (*content.measurements, *content.evaluations, content.segmentation and content.segmentation.uid)
    digest = blake2b(repr(said).encode(), digest_size=16).hexdigest()
    evidence = [
        _reference(instance, names, source.StudyInstanceUID)
        for instance in instances
        if is_valid_uid(names.uid(identity(instance)[1]))
    ]
    if content.segmentation is not None:
        segmentation = content.segmentation
        evidence.append(
            _evidence(
                segmentation.sop_class, segmentation.uid, segmentation.series_uid, source.StudyInstanceUID
            )
        )
    made = highdicom.sr.ComprehensiveSR(
        evidence=[source, *evidence],
        content=content.report()[0],
        series_instance_uid=made_uid("SR series", source.SeriesInstanceUID, algorithm),
        series_number=series_number(content.plan, 2),
        sop_instance_uid=made_uid("SR", source.SeriesInstanceUID, source.SOPInstanceUID, algorithm, digest),
        instance_number=1,
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description=text(f"Measurements by {algorithm.name}", 64),
        coding_schemes=[
            CodingSchemeIdentificationItem(
                PRIVATE_SCHEME, name="medmtl's own terms", responsible_organization="medmtl"
            )
        ],
        **equipment(algorithm, names),
    )
    del made.CurrentRequestedProcedureEvidenceSequence  # names the stand-in of the sources, too
    if evidence:
        made.CurrentRequestedProcedureEvidenceSequence = _by_series(evidence)
    if names.hides is not None:
        hide_dates(made)
        hide_dates_within(made)
    return made


def _reference(instance: Instance, names: Names, study_uid: str) -> Dataset:
    sop_class, uid, series = identity(instance)
    return _evidence(sop_class, names.uid(uid), names.uid(series), study_uid)


def _evidence(sop_class: str, uid: str, series_uid: str, study_uid: str) -> Dataset:
    from pydicom.dataset import Dataset

    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = sop_class, uid
    made.SeriesInstanceUID, made.StudyInstanceUID = series_uid, study_uid
    return made


def _by_series(evidence: Sequence[Dataset]) -> list[Dataset]:
    from pydicom.dataset import Dataset

    by_series: dict[str, list[Dataset]] = {}
    for one in evidence:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
        by_series.setdefault(one.SeriesInstanceUID, []).append(item)
    series = []
    for uid, items in by_series.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedSOPSequence = uid, items
        series.append(item)
    study = Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = evidence[0].StudyInstanceUID, series
    return [study]
