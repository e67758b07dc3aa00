from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from medmtl.inference.dicom import write_seg
from medmtl.inference.dicom.check_sr import check_sr
from medmtl.inference.dicom.origin import Names
from medmtl.inference.dicom.report import Content, SegmentsOf
from medmtl.inference.dicom.sr import write_sr
from medmtl.types import CaseError
from tests.helpers import dicom_writer as writer
from tests.helpers.dicom_out import (
    ALGORITHM,
    SEGMENTS,
    evaluations,
    items_of,
    labels_of,
    measurements,
    names_of,
    subject_of,
)


def another_value(ds: Dataset) -> None:
    items_of(ds, "NUM")[0].MeasuredValueSequence[0].NumericValue = 7.5


def another_unit(ds: Dataset) -> None:
    items_of(ds, "NUM")[0].MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue = "kg"


def another_class(ds: Dataset) -> None:
    [item] = [item for item in items_of(ds, "CODE") if names_of([item]) == ["disease"]]
    item.ConceptCodeSequence[0].CodeValue = "NOR"


def another_segment(ds: Dataset) -> None:
    [item, *_] = [item for item in items_of(ds, "IMAGE") if names_of([item]) == ["Referenced Segment"]]
    item.ReferencedSOPSequence[0].ReferencedSegmentNumber = 1


def another_patient(ds: Dataset) -> None:
    ds.PatientID = "somebody else"


def another_study(ds: Dataset) -> None:
    ds.StudyInstanceUID = "1.2.3"


CHANGES: dict[Callable[[Dataset], None], str] = {
    another_value: "lacks a measurement",
    another_unit: "lacks a measurement",
    another_class: "lacks a class",
    another_segment: "refers to other segments",
    another_patient: "another patient",
    another_study: "another study",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_report_that_says_something_else_is_found_out(
    change: Callable[[Dataset], None], tmp_path: Path
) -> None:
    subject = subject_of(writer.ge_cine(), tmp_path / "images")
    [plan] = subject.plans
    seg, path = tmp_path / "seg.dcm", tmp_path / "sr.dcm"
    write_seg(seg, subject, labels_of(plan), SEGMENTS, algorithm=ALGORITHM)
    write_sr(path, subject, measurements(), evaluations(), algorithm=ALGORITHM, seg=seg, segments=SEGMENTS)
    written = pydicom.dcmread(seg)
    uids = (written.SOPClassUID, written.SOPInstanceUID, written.SeriesInstanceUID)
    of = SegmentsOf(*uids, {1: 1, 2: 2, 3: 3}, "binary")
    content = Content(
        plan, plan.study_uid, measurements(), evaluations(), SEGMENTS, of, ALGORITHM, Names(None)
    )
    check_sr(path, content, "secret-1")
    ds = pydicom.dcmread(path)
    change(ds)
    ds.save_as(path)
    with pytest.raises(CaseError, match=CHANGES[change]) as error:
        check_sr(path, content, "secret-1")
    assert error.value.code == "LABEL_VALUES"
