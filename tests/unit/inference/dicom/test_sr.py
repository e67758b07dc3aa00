from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import highdicom
import pydicom
import pytest
from pydicom.dataset import Dataset

from medmtl.data.dicom import scan
from medmtl.inference.dicom import Codes, write_seg, write_sr
from medmtl.inference.dicom.concepts import FROM_HEAD, FROM_MASKS, SUM_OF_VOXELS
from tests.helpers import dicom_writer as writer
from tests.helpers.dicom_out import (
    ALGORITHM,
    CODES,
    EXPORTS,
    SEGMENTS,
    Keyed,
    Subject,
    evaluations,
    items_of,
    labels_of,
    measurements,
    names_of,
    subject_of,
    text_of,
)


def written(
    subject: Subject, folder: Path, *, kind: Any = "binary", hides: Any = None
) -> tuple[Dataset, Dataset]:
    """A segmentation and the report that refers to it."""
    seg, report = folder / "seg.dcm", folder / "sr.dcm"
    labels = labels_of(subject.plans[0])
    write_seg(seg, subject, labels, SEGMENTS, algorithm=ALGORITHM, kind=kind, hides=hides)
    assert write_sr(
        report,
        subject,
        measurements(),
        evaluations(),
        algorithm=ALGORITHM,
        seg=seg,
        segments=SEGMENTS,
        hides=hides,
    )
    return pydicom.dcmread(seg), pydicom.dcmread(report)


def groups_of(report: Dataset) -> dict[str, Dataset]:
    """Measurement groups by their tracking identifier."""
    [imaging] = [
        item for item in items_of(report, "CONTAINER") if names_of([item]) == ["Imaging Measurements"]
    ]
    found = {}
    for group in imaging.ContentSequence:
        identifiers = [i for i in group.ContentSequence if names_of([i]) == ["Tracking Identifier"]]
        found[identifiers[0].TextValue] = group
    return found


def code_of(item: Dataset, name: str) -> str | None:
    """Value of the coded child of that name."""
    values = [i.ConceptCodeSequence[0] for i in item.ContentSequence if names_of([i]) == [name]]
    return values[0].get("CodeValue") or values[0].LongCodeValue if values else None


def test_every_value_is_there_with_its_code_unit_site_method_and_phase(tmp_path: Path) -> None:
    _, report = written(subject_of(writer.ge_cine(), tmp_path / "images"), tmp_path)
    told = []
    for name, group in groups_of(report).items():
        for item in (i for i in group.ContentSequence if i.ValueType == "NUM"):
            [measured] = item.MeasuredValueSequence
            [unit] = measured.MeasurementUnitsCodeSequence
            assert unit.CodingSchemeDesignator == "UCUM"
            told.append(
                (
                    name,
                    item.ConceptNameCodeSequence[0].get("CodeValue"),
                    float(measured.NumericValue),
                    unit.CodeValue,
                    code_of(item, "Finding Site"),
                    code_of(item, "Measurement Method"),
                    code_of(item, "Cardiac cycle phase"),
                )
            )
    ventricle, wall = "87878005", "49848007"
    assert told[:7] == [
        ("MYO", "18087-7", 111.0, "g", wall, FROM_MASKS.value, "416190007"),
        ("LV", "8821-1", 123.456789, "mL", ventricle, SUM_OF_VOXELS.value, "416190007"),
        ("LV", "8823-7", 60.1, "mL", ventricle, SUM_OF_VOXELS.value, "416430001"),
        ("LV", "8811-2", 51.32, "%", ventricle, FROM_MASKS.value, None),
        ("LV", "90096001", 63.3, "mL", ventricle, FROM_MASKS.value, None),
        ("LV", "82799009", 4.4, "L/min", ventricle, FROM_MASKS.value, None),
        ("function", "8811-2", 49.0, "%", ventricle, FROM_HEAD.value, None),
    ]
    assert [(row[0], row[2], row[3]) for row in told[7:]] == [
        ("disease", 0.125, "1"),
        ("disease", 0.75, "1"),
        ("disease", 0.125, "1"),
    ]


def test_measurements_refer_to_the_segment_that_they_were_made_on(tmp_path: Path) -> None:
    seg, report = written(subject_of(writer.ge_cine(), tmp_path / "images"), tmp_path)
    groups = groups_of(report)
    for name, number in (("MYO", 2), ("LV", 3)):
        [item] = [i for i in groups[name].ContentSequence if names_of([i]) == ["Referenced Segment"]]
        [reference] = item.ReferencedSOPSequence
        assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == number
    assert "Referenced Segment" not in names_of(groups["function"].ContentSequence)


def test_segmentation_and_report_share_the_tracking_uid_of_a_structure(tmp_path: Path) -> None:
    for kind in ("binary", "labelmap"):
        seg, report = written(subject_of(writer.ge_cine(), tmp_path / kind), tmp_path, kind=kind)
        group = groups_of(report)["LV"]
        [item] = [i for i in group.ContentSequence if names_of([i]) == ["Tracking Unique Identifier"]]
        assert [s.TrackingUID for s in seg.SegmentSequence if s.get("TrackingID") == "LV"] == [item.UID]


@pytest.mark.parametrize("name", ["ge", "philips"])
def test_a_value_at_end_diastole_names_the_images_of_that_phase(name: str, tmp_path: Path) -> None:
    subject = subject_of(EXPORTS[name](), tmp_path / "images")
    _, report = written(subject, tmp_path)
    [volume] = [i for i in items_of(report, "NUM") if names_of([i]) == ["Left Ventricular ES Volume"]]
    named = set()
    for item in items_of(volume, "IMAGE"):
        [reference] = item.ReferencedSOPSequence
        frames = reference.get("ReferencedFrameNumber") or 1
        for frame in [frames] if isinstance(frames, int) else frames:
            named.add((reference.ReferencedSOPInstanceUID, int(frame)))
    planes = [row[2] for row in subject.plans[0].planes]
    assert named == {(p.instance.header.get("SOPInstanceUID"), p.frame + 1) for p in planes}


def test_a_class_is_a_qualitative_evaluation(tmp_path: Path) -> None:
    _, report = written(subject_of(writer.mr_volume(), tmp_path / "images"), tmp_path)
    assert code_of(groups_of(report)["disease"], "disease") == "HCM"


def test_a_class_takes_the_code_that_the_model_gives_it(tmp_path: Path) -> None:
    code = {"value": "233873004", "scheme": "SCT", "meaning": "Hypertrophic cardiomyopathy"}
    codes = Codes.from_plain({"classes": {"disease": {"HCM": code}}})
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    evaluation = codes.evaluation("disease", "HCM", {"HCM": 1.0})
    write_sr(tmp_path / "sr.dcm", subject, [], [evaluation], algorithm=ALGORITHM)
    assert code_of(groups_of(pydicom.dcmread(tmp_path / "sr.dcm"))["disease"], "disease") == "233873004"


def test_highdicom_reads_the_report_as_tid_1500(tmp_path: Path) -> None:
    written(subject_of(writer.ge_cine(), tmp_path / "images"), tmp_path)
    report = highdicom.sr.srread(tmp_path / "sr.dcm")
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["MYO", "LV"]
    others = report.content.get_image_measurement_groups()
    assert [group.tracking_identifier for group in others] == ["function", "disease"]


def test_evidence_is_every_image_and_the_segmentation_of_one_study(tmp_path: Path) -> None:
    subject = subject_of(writer.siemens_cine(), tmp_path / "images")
    seg, report = written(subject, tmp_path)
    [study] = report.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == subject.plans[0].study_uid
    named = {
        (series.SeriesInstanceUID, item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    headers = [plane.instance.header for row in subject.plans[0].planes for plane in row]
    keys = ("SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
    images = {tuple(header.get(key) for key in keys) for header in headers}
    assert named == images | {tuple(seg[key].value for key in keys)}


def test_a_report_without_segmentation_holds_the_same_values(tmp_path: Path) -> None:
    subject = subject_of(writer.ge_cine(), tmp_path / "images")
    _, report = written(subject, tmp_path)
    write_sr(
        tmp_path / "alone.dcm", subject, measurements(), evaluations(), algorithm=ALGORITHM, segments=SEGMENTS
    )
    alone = pydicom.dcmread(tmp_path / "alone.dcm")
    numbers = [
        [i.MeasuredValueSequence[0].NumericValue for i in items_of(of, "NUM")] for of in (report, alone)
    ]
    assert numbers[0] == numbers[1]
    assert "Referenced Segment" not in names_of(items_of(alone, "IMAGE"))


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    values = [CODES.measurement("LV_EF", value, "%") for value in (math.nan, 50.0, math.inf)]
    assert write_sr(tmp_path / "sr.dcm", subject, values, algorithm=ALGORITHM)
    assert len(items_of(pydicom.dcmread(tmp_path / "sr.dcm"), "NUM")) == 1


def test_nothing_to_say_is_nothing_written(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    value = CODES.measurement("LV_EF", math.nan, "%")
    assert not write_sr(tmp_path / "sr.dcm", subject, [value], algorithm=ALGORITHM)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_pseudonymized_nothing_of_patient_study_or_images_is_left(tmp_path: Path) -> None:
    subject = subject_of(writer.ge_cine(), tmp_path / "images")
    [plan] = subject.plans
    seg, report = written(subject, tmp_path, hides=Keyed())
    said = text_of(tmp_path / "sr.dcm")
    secrets = ["Nobody", "Known", "secret-1", "20240102", "090000", plan.study_uid, plan.series_uid]
    uids = [plane.instance.header.get("SOPInstanceUID") for row in plan.planes for plane in row]
    assert [word for word in [*secrets, *uids] if word in said] == []
    assert report.PatientID == seg.PatientID
    assert report.StudyInstanceUID == seg.StudyInstanceUID
    times = [str(element.value) for element in report.iterall() if element.VR in ("DT", "DA")]
    assert {time[:8] for time in times if time} <= {"19000101"}


def test_images_with_invalid_uids_are_not_named_since_dcmtk_would_refuse_the_report(tmp_path: Path) -> None:
    export = writer.mr_volume()
    for number, frame in enumerate(export.frames):
        frame.tags["SOPInstanceUID"] = f"1.2.1{number}.4"
    for path in writer.write(export, tmp_path / "broken").iterdir():
        path.write_bytes(path.read_bytes().replace(b"1.2.1", b"1.2.0"))
    [plan] = [plan for series in scan([tmp_path / "broken"]).series for plan in series.volumes]
    subject = Subject((plan,))
    seg, report = written(subject, tmp_path)
    [study] = report.CurrentRequestedProcedureEvidenceSequence
    [series] = study.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == [seg.SOPInstanceUID]
    assert names_of(items_of(report, "IMAGE")) == ["Referenced Segment"] * 2


def test_the_same_results_are_the_same_object(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    uids = []
    for value in (50.0, 50.0, 51.0):
        measured = [CODES.measurement("LV_EF", value, "%")]
        write_sr(tmp_path / "sr.dcm", subject, measured, algorithm=ALGORITHM)
        uids.append(pydicom.dcmread(tmp_path / "sr.dcm").SOPInstanceUID)
    assert uids[0] == uids[1] != uids[2]
