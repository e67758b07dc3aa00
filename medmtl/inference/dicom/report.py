"""The content tree of a measurement report (TID 1500): a group per segment, and one per task without.

Sources: DICOM PS3.16 TID 1500 (report), 1411 (volumetric ROI), 1501 (measurements and evaluations),
300 (measurement), 1419 (ROI measurements), 4019 (algorithm).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medmtl.data.dicom.model import VolumePlan
from medmtl.data.dicom.seg import Code
from medmtl.inference.dicom.codes import Algorithm, Evaluation, Kind, Measurement, Segment
from medmtl.inference.dicom.concepts import CARDIAC_PHASE, PHASES, own_code, text, unit_code
from medmtl.inference.dicom.origin import Names, identity, is_valid_uid, made_uid
from medmtl.inference.dicom.seg import coded, tracking_uid

if TYPE_CHECKING:
    from highdicom.sr import MeasurementReport

_PROCEDURES: Mapping[str, Code] = {
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
}
_ANY_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")


@dataclass(frozen=True)
class SegmentsOf:
    """A segmentation file that measurements refer to.

    Attributes:
        sop_class: its SOPClassUID.
        uid: its SOPInstanceUID.
        series_uid: its SeriesInstanceUID.
        numbers: SegmentNumber by voxel value.
        kind: whether it is a label map.
    """

    sop_class: str
    uid: str
    series_uid: str
    numbers: Mapping[int, int]
    kind: Kind


@dataclass(frozen=True, eq=False)
class Content:
    """What a report says, and of what.

    Attributes:
        plan: the images.
        study_uid: as it is written.
        measurements: finite numbers.
        evaluations: classes.
        segments: of the segmentation.
        segmentation: the file, or None.
        algorithm: what measured.
        names: of the source images.
    """

    plan: VolumePlan
    study_uid: str
    measurements: Sequence[Measurement]
    evaluations: Sequence[Evaluation]
    segments: Sequence[Segment]
    segmentation: SegmentsOf | None
    algorithm: Algorithm
    names: Names

    def report(self) -> MeasurementReport:
        """The content tree."""
        from highdicom import sr

        device = sr.DeviceObserverIdentifyingAttributes(
            uid=made_uid("device", self.algorithm),
            name="medmtl",
            manufacturer_name="medmtl",
            model_name=text(self.algorithm.name, 64) or "medmtl",
            serial_number=text(self.algorithm.digest, 64) or None,
        )
        observer = sr.ObserverContext(
            observer_type=coded(Code("121007", "DCM", "Device")), observer_identifying_attributes=device
        )
        return sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=observer),
            procedure_reported=coded(_PROCEDURES.get(self.plan.modality, _ANY_PROCEDURE)),
            imaging_measurements=[*self._of_segments(), *self._of_tasks()],
        )

    def _of_segments(self) -> Iterable[Any]:
        """A group for every segment on which something was measured; of a volume where it can be named."""
        from highdicom import sr

        for segment in self.segments:
            measured = [m for m in self.measurements if m.segment == segment.number]
            if not measured:
                continue
            same: dict[str, Any] = {
                "tracking_identifier": sr.TrackingIdentifier(
                    uid=tracking_uid(self.study_uid, self.algorithm, segment.name),
                    identifier=text(segment.name, 64) or f"segment {segment.number}",
                ),
                "finding_type": coded(segment.code),
                "finding_sites": [sr.FindingSite(coded(segment.site))] if segment.site else None,
                "algorithm_id": self._algorithm(),
                "measurements": [self._measurement(m) for m in measured],
            }
            if not self.names_segments:
                yield sr.MeasurementsAndQualitativeEvaluations(**same)
                continue
            assert self.segmentation is not None
            reference = sr.ReferencedSegment(
                sop_class_uid=self.segmentation.sop_class,
                sop_instance_uid=self.segmentation.uid,
                segment_number=self.segmentation.numbers[segment.number],
                source_series=sr.SourceSeriesForSegmentation(self.names.uid(self.plan.series_uid)),
            )
            yield sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=reference, **same)

    @property
    def names_segments(self) -> bool:
        """Whether groups refer to their segments.

        A report that refers to a label map, or holds a UID that is not valid, is unreadable as a whole to
        programs that are in use (dcmtk 3.6.7); its groups have the tracking UIDs of the segments anyway.
        """
        binary = self.segmentation is not None and self.segmentation.kind == "binary"
        return binary and is_valid_uid(self.names.uid(self.plan.series_uid))

    def _of_tasks(self) -> Iterable[Any]:
        """A group for all else: values of regression heads, classes and their probabilities."""
        from highdicom import sr

        known = {segment.number for segment in self.segments}
        free = [m for m in self.measurements if m.segment not in known]
        names = dict.fromkeys([m.group or "values" for m in free] + [e.name for e in self.evaluations])
        for name in names:
            evaluations = [e for e in self.evaluations if e.name == name]
            measured = [m for m in free if (m.group or "values") == name]
            for evaluation in evaluations:
                measured += list(_probabilities(evaluation))
            yield sr.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=sr.TrackingIdentifier(
                    uid=made_uid("group", self.study_uid, self.algorithm, name),
                    identifier=text(name, 64) or "values",
                ),
                algorithm_id=self._algorithm(),
                measurements=[self._measurement(m) for m in measured],
                qualitative_evaluations=[
                    sr.QualitativeEvaluation(coded(e.code), coded(e.value_code)) for e in evaluations
                ],
            )

    def _algorithm(self) -> Any:
        from highdicom import sr

        digest = self.algorithm.digest
        return sr.AlgorithmIdentification(
            name=text(self.algorithm.name, 64) or "medmtl",
            version=text(self.algorithm.version, 64) or "0",
            parameters=[f"digest={text(digest, 64)}"] if digest else None,
        )

    def _measurement(self, of: Measurement) -> Any:
        from highdicom import sr

        made = sr.Measurement(
            name=coded(of.code),
            value=of.value,
            unit=coded(of.unit),
            tracking_identifier=sr.TrackingIdentifier(
                uid=made_uid("value", self.study_uid, self.algorithm, of.group, of.segment, of.name),
                identifier=text(of.name, 64) or "value",
            ),
            method=coded(of.method) if of.method is not None else None,
            finding_sites=[sr.FindingSite(coded(of.site))] if of.site is not None else None,
            referenced_images=self._images(of.frame),
        )
        if of.phase in PHASES:
            made[0].ContentSequence.append(
                sr.CodeContentItem(
                    name=coded(CARDIAC_PHASE),
                    value=coded(PHASES[of.phase]),
                    relationship_type=sr.RelationshipTypeValues.HAS_CONCEPT_MOD,
                )
            )
        return made

    def _images(self, frame: int | None) -> list[Any] | None:
        """The images of one phase."""
        from highdicom import sr

        if frame is None or not 0 <= frame < self.plan.frames:
            return None
        found: dict[tuple[str, str], list[int]] = {}
        for row in self.plan.planes:
            plane = row[frame]
            sop_class, uid, _ = identity(plane.instance)
            if not is_valid_uid(self.names.uid(uid)):
                continue
            several = (plane.instance.header.get("NumberOfFrames") or 1) > 1 or plane.items
            numbers = found.setdefault((sop_class, self.names.uid(uid)), [])
            if several and plane.frame + 1 not in numbers:
                numbers.append(plane.frame + 1)
        return [
            sr.SourceImageForMeasurement(sop_class, uid, sorted(numbers) or None)
            for (sop_class, uid), numbers in found.items()
        ]


def _probabilities(evaluation: Evaluation) -> Iterable[Measurement]:
    for name, value in evaluation.probabilities.items():
        if math.isfinite(value):
            code = own_code(f"probability.{name}")
            yield Measurement(
                name=f"{evaluation.name}.probability.{name}",
                value=float(value),
                unit=unit_code("1"),
                code=Code(code.value, code.scheme, f"Probability of {name}"[:64]),
                group=evaluation.name,
            )
