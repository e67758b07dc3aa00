"""Segmentations and reports of real series, as they come from scanners and archives."""

from __future__ import annotations

from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pydicom
import pytest

from medmtl.data.dicom import scan
from medmtl.data.dicom.model import VolumePlan
from medmtl.inference.dicom import write_seg, write_sr
from tests.helpers.dicom_out import (
    ALGORITHM,
    SEGMENTS,
    Subject,
    checked_by,
    evaluations,
    labels_of,
    measurements,
    points_by_the_standard,
    sources,
    voxels_at,
)


def volumes(place: Path) -> list[VolumePlan]:
    return [plan for series in scan([place]).series for plan in series.volumes]


@pytest.fixture(scope="module")
def cines(realdata: Path) -> list[VolumePlan]:
    root = realdata / "sunnybrook"
    if not root.is_dir():
        pytest.skip("no Sunnybrook cine there")
    return [plan for plan in volumes(root) if plan.frames > 1]


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_labels_of_a_real_cine_come_back_voxel_by_voxel(
    kind: Any, cines: list[VolumePlan], tmp_path: Path
) -> None:
    for plan in cines:
        labels = labels_of(plan)
        write_seg(tmp_path / "seg.dcm", Subject((plan,)), labels, SEGMENTS, algorithm=ALGORITHM, kind=kind)
        times = {image: t for image, (_, t) in sources(plan).items()}
        again = np.zeros_like(labels)
        for (number, uid, frame), points in points_by_the_standard(tmp_path / "seg.dcm").items():
            x, y, z = voxels_at(points, plan).T
            again[times[uid, frame], x, y, z] = number
        np.testing.assert_array_equal(again, labels)


def test_the_checkers_find_no_error_of_ours_in_objects_of_a_real_cine(
    cines: list[VolumePlan], tmp_path: Path
) -> None:
    for plan in cines:
        subject, seg, report = Subject((plan,)), tmp_path / "seg.dcm", tmp_path / "sr.dcm"
        write_seg(seg, subject, labels_of(plan), SEGMENTS, algorithm=ALGORITHM)
        write_sr(
            report, subject, measurements(), evaluations(), algorithm=ALGORITHM, seg=seg, segments=SEGMENTS
        )
        uids = [plane.instance.header.get("SOPInstanceUID") for row in plan.planes for plane in row]
        for path in (seg, report):
            said = checked_by("dciodvfy", path)
            lines = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
            # Some of these images have UIDs with leading zeros: what refers to them cannot be valid either.
            ours = [line for line in lines if not any(f"<{uid}>" in line for uid in uids)]
            assert set(ours) <= {
                "Error - Dicom dataset contains invalid data values for Value Representations"
            }
        assert checked_by("dsrdump", report).returncode == 0


def test_a_cine_of_200_images_is_written_and_checked_in_seconds(
    cines: list[VolumePlan], tmp_path: Path
) -> None:
    plan = max(cines, key=lambda cine: cine.frames * cine.shape[2])
    labels, subject = np.zeros((plan.frames, *plan.shape[:3]), np.uint8), Subject((plan,))
    for value, half in ((1, 60), (2, 40), (3, 20)):
        x, y = (slice(size // 2 - half, size // 2 + half) for size in plan.shape[:2])
        labels[:, x, y] = value
    write_seg(tmp_path / "warm.dcm", subject, labels, SEGMENTS, algorithm=ALGORITHM)
    start = process_time()
    write_seg(tmp_path / "seg.dcm", subject, labels, SEGMENTS, algorithm=ALGORITHM)
    assert pydicom.dcmread(tmp_path / "seg.dcm").NumberOfFrames == 3 * plan.frames * plan.shape[2]
    assert process_time() - start < 3  # of this process; 0.4 s


@pytest.mark.parametrize("folder", ["dcmqi", "dicom2nifti", "ibsi_validation", "pydicom"])
def test_labels_of_every_real_volume_come_back_voxel_by_voxel_and_pass_the_checker(
    folder: str, realdata: Path, tmp_path: Path
) -> None:
    place = (
        Path(pydicom.__file__).parent / "data" / "test_files" if folder == "pydicom" else realdata / folder
    )
    plans = [plan for plan in volumes(place) if np.prod(plan.shape) < 2e7] if place.is_dir() else []
    if not plans:
        pytest.skip(f"no volume in {folder}")
    for plan in plans:
        labels, subject = labels_of(plan), Subject((plan,))
        write_seg(tmp_path / "seg.dcm", subject, labels, SEGMENTS, algorithm=ALGORITHM)
        times = {image: t for image, (_, t) in sources(plan).items()}
        again = np.zeros_like(labels)
        for (number, uid, frame), points in points_by_the_standard(tmp_path / "seg.dcm").items():
            x, y, z = voxels_at(points, plan).T
            again[times[uid, frame], x, y, z] = number
        np.testing.assert_array_equal(again, labels)
        said = checked_by("dciodvfy", tmp_path / "seg.dcm")
        lines = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
        assert lines == [], plan.name
