from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medmtl.inference.dicom import check_seg, write_seg
from medmtl.types import CaseError
from tests.helpers import dicom_writer as writer
from tests.helpers.dicom_out import ALGORITHM, CODES, SEGMENTS, Keyed, labels_of, subject_of

Change = Callable[[Dataset], None]


def group(ds: Dataset, frame: int = 0) -> Dataset:
    return ds.PerFrameFunctionalGroupsSequence[frame]


def moved(ds: Dataset) -> None:
    position = group(ds).PlanePositionSequence[0]
    position.ImagePositionPatient = [v + 0.05 for v in position.ImagePositionPatient]


def on_the_next_slice(ds: Dataset) -> None:
    first, second = group(ds, 0), group(ds, 1)
    second.PlanePositionSequence = first.PlanePositionSequence


def turned(ds: Dataset) -> None:
    orientation = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    row, column = np.array(orientation.ImageOrientationPatient, float).reshape(2, 3)
    orientation.ImageOrientationPatient = [*(-row).tolist(), *column.tolist()]


def stretched(ds: Dataset) -> None:
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [float(v) * 1.01 for v in measures.PixelSpacing]


def thinner(ds: Dataset) -> None:
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 7.5


def of_another_phase(ds: Dataset) -> None:
    images = {
        groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID: groups
        for groups in ds.PerFrameFunctionalGroupsSequence
    }
    last = list(images.values())[-1]
    group(ds).DerivationImageSequence = last.DerivationImageSequence


def of_no_image(ds: Dataset) -> None:
    del group(ds).DerivationImageSequence


def one_pixel_more(ds: Dataset) -> None:
    data = bytearray(ds.PixelData)
    data[3] ^= 1
    ds.PixelData = bytes(data)


def one_frame_less(ds: Dataset) -> None:
    ds.PerFrameFunctionalGroupsSequence = list(ds.PerFrameFunctionalGroupsSequence)[:-1]
    ds.NumberOfFrames -= 1
    bits = ds.Rows * ds.Columns * ds.NumberOfFrames
    ds.PixelData = ds.PixelData[: bits // 8 + bits // 8 % 2]


def of_another_study(ds: Dataset) -> None:
    ds.StudyInstanceUID = "1.2.3"


def of_another_series(ds: Dataset) -> None:
    ds.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"


def of_another_patient(ds: Dataset) -> None:
    ds.PatientID = "somebody else"


def of_another_structure(ds: Dataset) -> None:
    ds.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "10200004"


CHANGES: dict[Change, str] = {
    moved: "does not lie on its image",
    on_the_next_slice: "names other images than its own|holds other pixels",
    turned: "another orientation|turned or moved",
    stretched: "another pixel spacing|does not lie on the image's grid",
    thinner: "another distance of slices",
    of_another_phase: "names other images than its own|holds other pixels",
    of_no_image: "names none of the image's files",
    one_pixel_more: "frame 1 holds other pixels",
    one_frame_less: "labelled voxels of",
    of_another_study: "another study",
    of_another_series: "does not name all series",
    of_another_patient: "another patient",
    of_another_structure: "its segments are others",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_file_that_differs_from_labels_or_images_is_found_out(change: Change, tmp_path: Path) -> None:
    subject = subject_of(writer.ge_cine(), tmp_path / "images")
    labels = labels_of(subject.plans[0])
    path = tmp_path / "seg.dcm"
    write_seg(path, subject, labels, SEGMENTS, algorithm=ALGORITHM)
    check_seg(path, subject, labels, SEGMENTS)
    ds = pydicom.dcmread(path)
    change(ds)
    ds.save_as(path)
    with pytest.raises(CaseError, match=CHANGES[change]) as error:
        check_seg(path, subject, labels, SEGMENTS)
    assert error.value.code == "LABEL_GEOMETRY_MISMATCH"


def test_labels_that_differ_by_one_voxel_are_found_out(tmp_path: Path) -> None:
    subject = subject_of(writer.ge_cine(), tmp_path / "images")
    labels = labels_of(subject.plans[0])
    for kind in ("binary", "labelmap"):
        path = tmp_path / f"{kind}.dcm"
        write_seg(path, subject, labels, SEGMENTS, algorithm=ALGORITHM, kind=kind)
        other = labels.copy()
        other[0, 3, 3, 0] = 1  # a slice without a frame
        with pytest.raises(CaseError, match="labelled voxels of"):
            check_seg(path, subject, other, SEGMENTS, kind=kind)


def test_another_kind_than_asked_for_is_found_out(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    labels = labels_of(subject.plans[0])
    write_seg(tmp_path / "seg.dcm", subject, labels, SEGMENTS, algorithm=ALGORITHM, kind="labelmap")
    with pytest.raises(CaseError, match="of kind LABELMAP"):
        check_seg(tmp_path / "seg.dcm", subject, labels, SEGMENTS)


def test_other_names_of_structures_are_found_out(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    labels = labels_of(subject.plans[0])
    write_seg(tmp_path / "seg.dcm", subject, labels, SEGMENTS, algorithm=ALGORITHM)
    with pytest.raises(CaseError, match="its segments are others"):
        check_seg(tmp_path / "seg.dcm", subject, labels, CODES.segments({"LV": 1, "MYO": 2, "RV": 3}))


def test_a_patient_who_was_to_be_hidden_is_found_out(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    labels = labels_of(subject.plans[0])
    path = tmp_path / "seg.dcm"
    write_seg(path, subject, labels, SEGMENTS, algorithm=ALGORITHM, hides=Keyed())
    ds = pydicom.dcmread(path)
    ds.PatientID = "secret-1"
    ds.save_as(path)
    with pytest.raises(CaseError, match="names the patient"):
        check_seg(path, subject, labels, SEGMENTS, hides=Keyed())


def test_what_is_no_dicom_file_is_found_out(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    (tmp_path / "seg.dcm").write_bytes(b"no DICOM at all" * 40)
    with pytest.raises(CaseError, match=r"seg\.dcm cannot be read"):
        check_seg(tmp_path / "seg.dcm", subject, labels_of(subject.plans[0]), SEGMENTS)


def test_a_file_that_was_cut_is_found_out(tmp_path: Path) -> None:
    subject = subject_of(writer.mr_volume(), tmp_path / "images")
    labels = labels_of(subject.plans[0])
    path = tmp_path / "seg.dcm"
    write_seg(path, subject, labels, SEGMENTS, algorithm=ALGORITHM)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CaseError, match="read again, is not what was to be written"):
        check_seg(path, subject, labels, SEGMENTS)
