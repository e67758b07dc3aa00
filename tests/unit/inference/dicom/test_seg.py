from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK

from medmtl.data.dicom import scan
from medmtl.inference.dicom import Segment, write_seg
from medmtl.inference.dicom.concepts import ANATOMY, TISSUE
from medmtl.inference.dicom.drawing import packed
from medmtl.types import CaseError
from tests.helpers import dicom_writer as writer
from tests.helpers.dicom_out import (
    ALGORITHM,
    CODES,
    EXPORTS,
    LABELS,
    SEGMENTS,
    Keyed,
    Subject,
    labels_of,
    points_by_the_standard,
    sources,
    subject_of,
    text_of,
    voxels_at,
)

USUAL = {"PatientID": "secret-1", "PatientName": "Nobody^Known"}
KINDS = ("binary", "labelmap")
PATIENT_AND_STUDY = [
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "StudyDescription"),
    *("ReferringPhysicianName", "ClinicalTrialProtocolID", "ClinicalTrialSubjectID", "FrameOfReferenceUID"),
]


def written(subject: Subject, labels: np.ndarray, path: Path, **options: Any) -> pydicom.Dataset:
    write_seg(path, subject, labels, SEGMENTS, algorithm=ALGORITHM, **options)
    return pydicom.dcmread(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EXPORTS)
def test_every_labelled_voxel_is_where_it_was_and_no_other_by_pydicom_and_the_standard_alone(
    name: str, kind: Any, tmp_path: Path
) -> None:
    subject = subject_of(EXPORTS[name](), tmp_path / "images")
    [plan] = subject.plans
    labels = labels_of(plan)
    written(subject, labels, tmp_path / "seg.dcm", kind=kind)
    times = {image: t for image, (_, t) in sources(plan).items()}
    again = np.zeros_like(labels)
    for (number, uid, frame), points in points_by_the_standard(tmp_path / "seg.dcm").items():
        x, y, z = voxels_at(points, plan).T
        assert not again[times[uid, frame], x, y, z].any()
        again[times[uid, frame], x, y, z] = number
    np.testing.assert_array_equal(again, labels)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ge", "siemens", "philips", "series-per-phase", "oblique", "flipped"])
def test_every_frame_names_the_one_image_of_its_slice_and_phase(name: str, kind: Any, tmp_path: Path) -> None:
    subject = subject_of(EXPORTS[name](), tmp_path / "images")
    [plan] = subject.plans
    ds = written(subject, labels_of(plan), tmp_path / "seg.dcm", kind=kind)
    where = sources(plan)
    for groups in ds.PerFrameFunctionalGroupsSequence:
        [source] = groups.DerivationImageSequence[0].SourceImageSequence
        z, t = where[source.ReferencedSOPInstanceUID, int(source.get("ReferencedFrameNumber") or 1)]
        index = np.atleast_1d(groups.FrameContentSequence[0].DimensionIndexValues).tolist()
        assert index[-1] == z + 1
        assert source.SpatialLocationsPreserved == "YES"
        if plan.frames > 1:
            assert index[-2] == t + 1 == groups.FrameContentSequence[0].TemporalPositionIndex
        plane = plan.planes[z][t]
        np.testing.assert_allclose(
            groups.PlanePositionSequence[0].ImagePositionPatient, plane.get("ImagePositionPatient"), atol=1e-9
        )


@pytest.mark.parametrize("name", ["tilted", "uneven", "mosaic"])
def test_frames_of_a_resampled_image_or_a_mosaic_say_that_pixels_do_not_correspond(
    name: str, tmp_path: Path
) -> None:
    subject = subject_of(EXPORTS[name](), tmp_path / "images")
    ds = written(subject, labels_of(subject.plans[0]), tmp_path / "seg.dcm")
    named = [
        source
        for groups in ds.PerFrameFunctionalGroupsSequence
        for source in groups.DerivationImageSequence[0].SourceImageSequence
    ]
    assert {source.SpatialLocationsPreserved for source in named} == {"NO"}


def test_a_slice_between_two_images_names_both(tmp_path: Path) -> None:
    subject = subject_of(EXPORTS["uneven"](), tmp_path / "images")
    ds = written(subject, labels_of(subject.plans[0]), tmp_path / "seg.dcm")
    counts = {
        len(groups.DerivationImageSequence[0].SourceImageSequence)
        for groups in ds.PerFrameFunctionalGroupsSequence
    }
    assert counts == {1, 2}


def test_all_images_are_referred_to_by_their_series(tmp_path: Path) -> None:
    subject = subject_of(EXPORTS["siemens"](), tmp_path / "images")
    [plan] = subject.plans
    ds = written(subject, labels_of(plan), tmp_path / "seg.dcm")
    named = {
        (series.SeriesInstanceUID, item.ReferencedSOPInstanceUID)
        for series in ds.ReferencedSeriesSequence
        for item in series.ReferencedInstanceSequence
    }
    headers = [plane.instance.header for row in plan.planes for plane in row]
    assert named == {(h.get("SeriesInstanceUID"), h.get("SOPInstanceUID")) for h in headers}
    assert len(ds.ReferencedSeriesSequence) == 5
    assert len(ds.SourceImageSequence) == len(headers)


def test_the_images_of_a_second_channel_are_referred_to_as_well(tmp_path: Path) -> None:
    first = subject_of(EXPORTS["ct"](), tmp_path / "ct")
    pet = writer.pet()
    pet.tags["StudyInstanceUID"] = first.plans[0].study_uid
    second = subject_of(pet, tmp_path / "pet")
    both = Subject((first.plans[0], second.plans[0]))
    ds = written(both, labels_of(first.plans[0]), tmp_path / "seg.dcm")
    assert [series.SeriesInstanceUID for series in ds.ReferencedSeriesSequence] == [
        plan.series_uid for plan in both.plans
    ]


def test_patient_and_study_are_those_of_the_images(tmp_path: Path) -> None:
    export = writer.mr_volume()
    export.tags |= {
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": "Müller^Jörg",
        "PatientSex": "M",
        "PatientAge": "064Y",
        "AccessionNumber": "A-17",
        "StudyID": "S4",
        "StudyDescription": "heart",
        "ReferringPhysicianName": "Who^Doctor",
        "ClinicalTrialProtocolID": "P-1",
        "ClinicalTrialSponsorName": "Somebody",
        "ClinicalTrialSubjectID": "17",
    }
    subject = subject_of(export, tmp_path / "images")
    ds = written(subject, labels_of(subject.plans[0]), tmp_path / "seg.dcm")
    source = pydicom.dcmread(tmp_path / "images" / "IM0000")
    for keyword in PATIENT_AND_STUDY:
        assert str(ds[keyword].value) == str(source[keyword].value), keyword
    assert ds.SeriesInstanceUID != source.SeriesInstanceUID


def test_what_is_not_valid_in_the_images_is_left_blank(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    for path in (tmp_path / "images").iterdir():
        content = path.read_bytes()
        path.write_bytes(content.replace(b"19000101", b"1900-1-1").replace(b"090000", b"nine  "))
    ds = written(subject, labels_of(subject.plans[0]), tmp_path / "seg.dcm")
    assert ds.PatientBirthDate == ""
    assert ds.StudyTime == ""
    assert str(ds.PatientName) == "Nobody^Known"


@pytest.mark.parametrize(
    "patient",
    [
        {"PatientID": "", "PatientName": "Müller^Jörg", "SpecificCharacterSet": "ISO_IR 100"},
        {"PatientID": "Größe-7", "SpecificCharacterSet": "ISO_IR 100"},
        {"PatientID": "", "PatientName": "", "PatientBirthDate": ""},
        {"PatientID": None, "PatientName": None, "PatientBirthDate": None, "StudyDate": None},
    ],
)
def test_a_patient_of_other_letters_or_none_at_all_is_taken_over(
    patient: dict[str, str | None], tmp_path: Path
) -> None:
    export = writer.mr_volume()
    export.tags |= patient
    subject = subject_of(export, tmp_path / "images")
    ds = written(subject, labels_of(subject.plans[0]), tmp_path / "seg.dcm")
    for keyword in ("PatientID", "PatientName"):
        assert str(ds[keyword].value or "") == str(patient.get(keyword, USUAL[keyword]) or "")


def test_an_identifier_that_is_too_long_is_kept_since_a_pacs_files_by_it(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    for path in (tmp_path / "images").iterdir():
        with pydicom.config.disable_value_validation():
            ds = pydicom.dcmread(path)
            ds.PatientID = "9" * 80
            ds.save_as(path)
    subject = Subject(tuple(plan for series in scan([tmp_path / "images"]).series for plan in series.volumes))
    write_seg(tmp_path / "seg.dcm", subject, labels_of(subject.plans[0]), SEGMENTS, algorithm=ALGORITHM)
    with pydicom.config.disable_value_validation():
        assert pydicom.dcmread(tmp_path / "seg.dcm").PatientID == "9" * 80


@pytest.mark.parametrize("kind", KINDS)
def test_pseudonymized_nothing_of_patient_study_or_images_is_left(kind: Any, tmp_path: Path) -> None:
    export = writer.siemens_cine()
    export.tags |= {"AccessionNumber": "A-17", "PatientSex": "F", "StudyDescription": "heart of N. Known"}
    subject = subject_of(export, tmp_path / "images")
    [plan] = subject.plans
    ds = written(subject, labels_of(plan), tmp_path / "seg.dcm", hides=Keyed(), kind=kind)
    said = text_of(tmp_path / "seg.dcm")
    header = plan.planes[0][0].instance.header
    secrets = ["Nobody", "Known", "secret-1", "A-17", "20240102", "090000", plan.study_uid, plan.series_uid]
    uids = [plane.instance.header.get("SOPInstanceUID") for row in plan.planes for plane in row]
    assert [word for word in [*secrets, *uids, header.get("FrameOfReferenceUID")] if word in said] == []
    assert ds.PatientIdentityRemoved == "YES"
    assert ds.LongitudinalTemporalInformationModified == "REMOVED"
    assert ds.PatientID == Keyed().of("patient secret-1")
    assert ds.PatientSex == "F"
    assert ds.StudyDate == ds.PatientBirthDate == ""


def test_unknown_patients_of_two_studies_are_not_taken_for_one(tmp_path: Path) -> None:
    patients = set()
    for export in (writer.mr_volume(), writer.ct()):
        export.tags |= {"PatientID": "", "PatientName": ""}
        subject = subject_of(export, tmp_path / export.name)
        path = tmp_path / f"{export.name}.dcm"
        patients.add(written(subject, labels_of(subject.plans[0]), path, hides=Keyed()).PatientID)
    assert len(patients) == 2


def test_one_patient_has_one_pseudonym_and_one_study_one_uid(tmp_path: Path) -> None:
    files = []
    for export in (writer.mr_volume(), writer.ge_cine()):
        export.tags["StudyInstanceUID"] = "1.2.3"
        subject = subject_of(export, tmp_path / export.name)
        path = tmp_path / f"{export.name}.dcm"
        files.append(written(subject, labels_of(subject.plans[0]), path, hides=Keyed()))
    assert files[0].PatientID == files[1].PatientID
    assert files[0].StudyInstanceUID == files[1].StudyInstanceUID
    assert files[0].SeriesInstanceUID != files[1].SeriesInstanceUID


def test_segments_say_what_they_are_and_which_algorithm_made_them(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    ds = written(subject, labels_of(subject.plans[0]), tmp_path / "seg.dcm")
    told = [
        (s.SegmentNumber, s.SegmentLabel, s.SegmentedPropertyTypeCodeSequence[0].CodeValue)
        for s in ds.SegmentSequence
    ]
    assert told == [(1, "RV", "53085002"), (2, "MYO", "49848007"), (3, "LV", "87878005")]
    for segment in ds.SegmentSequence:
        [algorithm] = segment.SegmentationAlgorithmIdentificationSequence
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("heart", "1.2.3")
        assert algorithm.AlgorithmParameters == "digest=0123456789abcdef"
    assert ds.SegmentsOverlap == "NO"
    assert (ds.Manufacturer, ds.ManufacturerModelName) == ("medmtl", "heart")


def test_values_with_gaps_are_counted_in_a_binary_file_and_kept_in_a_label_map(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    segments = CODES.segments({"LV": 500, "aorta": 7})
    labels = np.where(labels_of(subject.plans[0]) == 1, 500, 7).astype(np.uint16)
    numbers = {}
    for kind in ("binary", "labelmap"):
        path = tmp_path / f"{kind}.dcm"
        write_seg(path, subject, labels, segments, algorithm=ALGORITHM, kind=kind)
        numbers[kind] = {s.SegmentLabel: s.SegmentNumber for s in pydicom.dcmread(path).SegmentSequence}
    assert numbers["binary"] == {"aorta": 1, "LV": 2}
    assert numbers["labelmap"]["aorta"] == 7
    assert numbers["labelmap"]["LV"] == 500


def test_a_name_of_a_structure_may_be_long_or_of_other_letters(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    segments = [Segment(1, "Größe 心臓 \\ " + "x" * 80, TISSUE, ANATOMY)]
    labels = (labels_of(subject.plans[0]) == 1).astype(np.uint8)
    write_seg(tmp_path / "seg.dcm", subject, labels, segments, algorithm=ALGORITHM)
    [segment] = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    assert segment.SegmentLabel.startswith("Größe 心臓   x")
    assert len(segment.SegmentLabel) == 64


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_in_which_nothing_was_found_can_be_told_from_one_that_was_not_looked_at(
    kind: Any, tmp_path: Path
) -> None:
    subject = subject_of(writer.ge_cine(), tmp_path / "images")
    [plan] = subject.plans
    ds = written(subject, np.zeros((plan.frames, *plan.shape[:3]), np.uint8), tmp_path / "seg.dcm", kind=kind)
    phases = [g.FrameContentSequence[0].TemporalPositionIndex for g in ds.PerFrameFunctionalGroupsSequence]
    assert phases == [1, 2, 3, 4]
    assert not ds.pixel_array.any()


def test_the_same_labels_of_the_same_model_are_the_same_object_and_others_another(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    labels = labels_of(subject.plans[0])
    uids = [
        written(subject, of, tmp_path / "seg.dcm", kind=kind).SOPInstanceUID
        for of, kind in (
            (labels, "binary"),
            (labels, "binary"),
            (labels[:, ::-1], "binary"),
            (labels, "labelmap"),
        )
    ]
    assert uids[0] == uids[1]
    assert len(set(uids)) == 3


def test_a_3d_label_array_needs_no_frames(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    labels = labels_of(subject.plans[0])
    ds = written(subject, labels[0], tmp_path / "seg.dcm")
    assert ds.pixel_array.sum() == np.count_nonzero(labels)


def test_several_studies_are_written_at_once_by_several_threads(tmp_path: Path) -> None:
    names = ["ge", "siemens", "philips", "ct", "tilted", "pet", "oblique", "mosaic"]
    subjects = {name: subject_of(EXPORTS[name](), tmp_path / name) for name in names}

    def write(name: str) -> int:
        labels = labels_of(subjects[name].plans[0])
        write_seg(tmp_path / f"{name}.dcm", subjects[name], labels, SEGMENTS, algorithm=ALGORITHM)
        return int(pydicom.dcmread(tmp_path / f"{name}.dcm").pixel_array.sum() - np.count_nonzero(labels))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write, names)) == [0] * len(names)


def test_sources_without_a_frame_of_reference_get_one(tmp_path: Path) -> None:
    export = writer.mr_volume()
    export.tags["FrameOfReferenceUID"] = None
    subject = subject_of(export, tmp_path / "images")
    uids = {
        written(subject, labels_of(subject.plans[0]), tmp_path / "seg.dcm").FrameOfReferenceUID for _ in "ab"
    }
    assert len(uids) == 1


@pytest.mark.parametrize("name", ["ct", "oblique", "enhanced", "flipped", "pet", "tilted"])
def test_simpleitk_sees_the_mask_of_one_structure_in_its_place(name: str, tmp_path: Path) -> None:
    subject = subject_of(EXPORTS[name](), tmp_path / "images")
    [plan] = subject.plans
    labels = (labels_of(plan) == 1).astype(np.uint8)
    labels[0, 0, 0, :] = 1  # every slice has a frame
    write_seg(tmp_path / "seg.dcm", subject, labels, SEGMENTS[:1], algorithm=ALGORITHM)
    image = SimpleITK.ReadImage(str(tmp_path / "seg.dcm"))
    mask = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)
    np.testing.assert_array_equal(mask > 0, labels[0] > 0)
    for index in ((0, 0, 0), (3, 0, 0), (0, 5, 0), (2, 7, 4), tuple(size - 1 for size in mask.shape)):
        point = np.array(image.TransformIndexToPhysicalPoint(index))
        voxel = np.append(np.array(index, float), 1.0)
        np.testing.assert_allclose(point * (-1, -1, 1), (plan.affine @ voxel)[:3], atol=1e-3)


def test_a_value_that_no_segment_describes_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    labels = labels_of(subject.plans[0])
    labels[0, 0, 0, 0] = 9
    with pytest.raises(CaseError, match="the value 9, which no segment describes") as error:
        write_seg(tmp_path / "seg.dcm", subject, labels, SEGMENTS, algorithm=ALGORITHM)
    assert error.value.code == "LABEL_VALUES"
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_labels_on_another_grid_are_refused(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    with pytest.raises(ValueError, match="do not lie on a grid"):
        write_seg(tmp_path / "seg.dcm", subject, np.zeros((3, 4, 5), np.uint8), SEGMENTS, algorithm=ALGORITHM)


def test_images_that_vanished_are_named(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    with pytest.raises(CaseError, match="IM0000: cannot be read again"):
        written(subject, labels_of(subject.plans[0]), tmp_path / "seg.dcm")


def test_images_without_a_uid_are_named(tmp_path: Path) -> None:
    export = writer.mr_volume()
    export.frames[2].tags["SOPInstanceUID"] = None
    subject = subject_of(export, tmp_path / "images")
    with pytest.raises(CaseError, match="IM0002: has no SOPInstanceUID"):
        written(subject, labels_of(subject.plans[0]), tmp_path / "seg.dcm")


@pytest.mark.parametrize("pixels", [8, 15, 1, 192])
def test_bits_of_frames_follow_each_other_without_gaps(pixels: int) -> None:
    masks = [np.random.default_rng(n).random((n + 1, pixels)) < 0.5 for n in range(4)]
    bits = np.unpackbits(np.frombuffer(packed(masks), np.uint8), bitorder="little")
    expected = np.concatenate([mask.ravel() for mask in masks])
    np.testing.assert_array_equal(bits[: expected.size], expected)
    assert not bits[expected.size :].any()


def test_labels_are_named_in_the_order_of_their_values() -> None:
    assert [segment.name for segment in CODES.segments({"b": 2, "background": 0, "a": 1})] == ["a", "b"]
    assert [segment.number for segment in SEGMENTS] == sorted(LABELS.values())
