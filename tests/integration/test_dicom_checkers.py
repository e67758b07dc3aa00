"""What other programs say of the objects: dciodvfy of Debian's dicom3tools, dcmtk and dcmqi."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import SegmentationStorage

from medmtl.inference.dicom import write_seg, write_sr
from tests.helpers.dicom_out import (
    ALGORITHM,
    EXPORTS,
    SEGMENTS,
    Keyed,
    checked_by,
    evaluations,
    labels_of,
    measurements,
    subject_of,
    voxels_at,
)

NEW_IN_LABEL_MAPS = (
    "SegmentNumber not monotonically increasing from one by one - have SegmentSequence item number 1",
    "Value is zero for value 1 of attribute <Segment Number>",
    "Unrecognized enumerated value <LABELMAP> for value 1 of attribute <Segmentation Type>",
    "Missing attribute Type 1 Required Element=<SegmentIdentificationSequence>",
)
"""What sets label maps, in the standard since 2024, apart from the segmentations that dciodvfy knows."""


def written(name: str, folder: Path, *, kind: Any = "binary", hides: Any = None) -> tuple[Path, Path]:
    subject = subject_of(EXPORTS[name](), folder / "images")
    seg, report = folder / "seg.dcm", folder / "sr.dcm"
    labels = labels_of(subject.plans[0])
    write_seg(seg, subject, labels, SEGMENTS, algorithm=ALGORITHM, kind=kind, hides=hides)
    write_sr(
        report,
        subject,
        measurements(),
        evaluations(),
        algorithm=ALGORITHM,
        seg=seg,
        segments=SEGMENTS,
        hides=hides,
    )
    return seg, report


def errors_of(path: Path) -> list[str]:
    said = checked_by("dciodvfy", path)
    return [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("name", EXPORTS)
def test_dciodvfy_finds_no_error(name: str, tmp_path: Path) -> None:
    seg, report = written(name, tmp_path)
    assert errors_of(seg) == []
    assert errors_of(report) == []


def test_dciodvfy_finds_no_error_in_pseudonymized_objects(tmp_path: Path) -> None:
    seg, report = written("siemens", tmp_path, hides=Keyed())
    assert errors_of(seg) == []
    assert errors_of(report) == []


@pytest.mark.parametrize("name", ["ge", "philips", "tilted"])
def test_dciodvfy_taking_a_label_map_for_a_segmentation_finds_only_what_is_new_in_it(
    name: str, tmp_path: Path
) -> None:
    seg, report = written(name, tmp_path, kind="labelmap")
    assert errors_of(report) == []
    ds = pydicom.dcmread(seg)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    ds.save_as(seg)
    others = [error for error in errors_of(seg) if not any(of in error for of in NEW_IN_LABEL_MAPS)]
    assert others == []


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("name", ["ge", "philips", "tilted"])
def test_dcmtk_reads_segmentation_and_report(name: str, kind: Any, tmp_path: Path) -> None:
    seg, report = written(name, tmp_path, kind=kind)
    dumped = checked_by("dcmdump", seg)
    assert dumped.returncode == 0
    assert dumped.stderr == ""
    assert "SegmentSequence" in dumped.stdout
    read = checked_by("dsrdump", report)
    assert read.returncode == 0
    assert [line for line in read.stderr.splitlines() if line.startswith(("E:", "F:"))] == []
    assert '"Left Ventricular ED Volume")="123.456789" (mL,UCUM,' in read.stdout
    assert checked_by("dsr2html", report, tmp_path / "report.html").returncode == 0
    assert (
        "Hypertrophic" in (tmp_path / "report.html").read_text()
        or "HCM" in (tmp_path / "report.html").read_text()
    )


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("name", ["ct", "tilted", "uneven", "oblique", "enhanced", "flipped", "pet"])
def test_dcmqi_sees_every_voxel_in_its_place(name: str, kind: Any, tmp_path: Path) -> None:
    subject = subject_of(EXPORTS[name](), tmp_path / "images")
    [plan] = subject.plans
    labels = labels_of(plan)
    write_seg(tmp_path / "seg.dcm", subject, labels, SEGMENTS, algorithm=ALGORITHM, kind=kind)
    masks = tmp_path / "masks"
    masks.mkdir()
    given = ("--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", masks, "--outputType", "nii")
    said = checked_by("segimage2itkimage", *given)
    assert (said.returncode, said.stderr) == (0, "")
    again = np.zeros_like(labels[0])
    for path in masks.glob("*.nii.gz"):
        image = SimpleITK.ReadImage(path)
        values = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)
        filled = np.argwhere(values)
        points = np.array([image.TransformIndexToPhysicalPoint(index) for index in filled.tolist()])
        x, y, z = voxels_at(points, plan).T
        again[x, y, z] = values[tuple(filled.T)]
    np.testing.assert_array_equal(again, labels[0])


def test_dcmqi_reads_values_and_segments_of_a_report(tmp_path: Path) -> None:
    seg, report = written("ge", tmp_path)
    said = checked_by("tid1500reader", "--inputDICOM", report, "--outputMetadata", tmp_path / "report.json")
    assert said.returncode == 0
    read = json.loads((tmp_path / "report.json").read_text())
    groups = {group["TrackingIdentifier"]: group for group in read["Measurements"]}
    assert groups["LV"]["ReferencedSegment"] == 3
    assert groups["LV"]["segmentationSOPInstanceUID"] == pydicom.dcmread(seg).SOPInstanceUID
    values = [
        (item["quantity"]["CodeValue"], float(item["value"])) for item in groups["LV"]["measurementItems"]
    ]
    assert ("8821-1", 123.456789) in values
