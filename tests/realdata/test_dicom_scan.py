"""What is made of public DICOM series, against the reference NIfTI beside them and what is known of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medmtl.data.dicom import scan
from medmtl.data.dicom.heartbeat import propose_ed_es
from medmtl.data.dicom.model import Scan, VolumePlan

REFERENCES = [
    ("failing/slicecount/001", (256, 256, 2)),
    ("ge/fmri/001", (64, 64, 4, 2)),
    ("ge/fmri/001_implicit", (64, 64, 4, 2)),
    ("generic/anatomical/001", (256, 256, 4)),
    ("generic/anatomical/001_implicit", (256, 256, 4)),
    ("generic/anatomical/002_non_isotropic", (64, 28, 4)),
    ("generic/compressed_jpegls/001", (256, 256, 4)),
    ("generic/compressed_rle/001", (256, 256, 4)),
    ("hitachi/anatomical/001", (64, 64, 4)),
    ("hitachi/anatomical/001_implicit", (64, 64, 4)),
    ("philips_enhanced/fmri/001", (64, 64, 8, 4)),
    ("philips_enhanced/fmri/001_implicit", (64, 64, 8, 4)),
]
"""Folders of dicom2nifti with a reference NIfTI, and the shape of the volume in them."""

STUDIES = [
    # folder, modality, description, instances, (shape, spacing) of the volumes
    (
        "ibsi_validation/STS_008/CT/image",
        "CT",
        "IBSI_1_STS_008_CT_image",
        51,
        (141, 137, 51),
        (0.9766, 0.9766, 3.27),
    ),
    (
        "ibsi_validation/STS_008/PET/image",
        "PT",
        "IBSI_1_STS_008_PET_image",
        51,
        (30, 29, 51),
        (4.6875, 4.6875, 3.27),
    ),
    (
        "ibsi_validation/STS_008/MR_T1/image",
        "MR",
        "IBSI_1_STS_008_MR_T1_image",
        28,
        (77, 79, 28),
        (0.9766, 0.9766, 3.27),
    ),
    ("dcmqi/segmentations/24x38x3/image", "CT", "Image 24x38x3", 3, (24, 38, 3), (0.7, 0.7, 2.5)),
    (
        "dcmqi/segmentations/24x38x3/multiframe",
        "CT",
        "Multiframe image 24x38x3",
        1,
        (24, 38, 3),
        (0.7, 0.7, 2.5),
    ),
    (
        "dcmqi/segmentations/23x38x3/multiframe",
        "CT",
        "Multiframe image 23x38x3",
        1,
        (23, 38, 3),
        (0.7, 0.7, 2.5),
    ),
    ("dcmqi/segmentations/ct-3slice", "CT", "", 3, (512, 512, 3), (0.8105, 0.8105, 1.0)),
]


def folder_in(realdata: Path, name: str) -> Path:
    folder = realdata / name
    if not folder.is_dir():
        pytest.skip(f"no {name} in {realdata}")
    return folder


def all_codes(found: Scan) -> set[str]:
    findings = [*found.findings, *(f for series in found.series for f in series.findings)]
    findings += [f for series in found.series for plan in series.volumes for f in plan.findings]
    return {finding.code for finding in findings}


def only(found: Scan) -> VolumePlan:
    (plan,) = [plan for series in found.series for plan in series.volumes]
    return plan


def decoded(plan: VolumePlan) -> np.ndarray:
    """``(X, Y, Z, T)`` rescaled values by pydicom alone, each plane where the plan says."""
    files: dict[int, Any] = {}
    made = np.zeros((*plan.shape[:3], plan.frames))
    for z, row in enumerate(plan.planes):
        for t, plane in enumerate(row):
            key = id(plane.instance)
            if key not in files:
                pixels = pydicom.dcmread(plane.instance.source.path).pixel_array  # type: ignore[attr-defined]
                files[key] = pixels if pixels.ndim == 3 else pixels[None]
            slope, intercept = plane.get("RescaleSlope"), plane.get("RescaleIntercept")
            values = files[key][plane.frame] * (1.0 if slope is None else slope) + (intercept or 0.0)
            made[:, :, z, t] = values.T
    return made


@pytest.mark.parametrize(("name", "shape"), REFERENCES)
def test_every_voxel_lies_where_the_reference_has_it(
    realdata: Path, name: str, shape: tuple[int, ...]
) -> None:
    folder = folder_in(realdata / "dicom2nifti", name)
    plan = only(scan([folder]))
    assert plan.shape == shape
    reference = nib.load(folder.parent / f"{folder.name}_ground_truth.nii.gz")
    truth = np.asarray(reference.dataobj, dtype=np.float64).reshape(*reference.shape[:3], -1)
    to_reference = np.linalg.inv(reference.affine) @ plan.affine
    index = np.stack(np.meshgrid(*map(np.arange, shape[:3]), indexing="ij"), axis=-1).reshape(-1, 3)
    there = index @ to_reference[:3, :3].T + to_reference[:3, 3]
    assert np.abs(there - np.rint(there)).max() < 1e-3
    i, j, k = np.rint(there).astype(int).T
    assert truth.shape[3] == plan.frames
    np.testing.assert_allclose(truth[i, j, k], decoded(plan).reshape(len(index), -1), atol=1e-3)


@pytest.mark.parametrize(("name", "modality", "description", "instances", "shape", "spacing"), STUDIES)
def test_a_series_is_one_volume_without_findings(
    realdata: Path,
    name: str,
    modality: str,
    description: str,
    instances: int,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
) -> None:
    found = scan([folder_in(realdata, name)])
    (series,) = found.series
    assert (series.modality, series.description) == (modality, description)
    assert (series.instances, series.usable) == (instances, instances)
    assert only(found).shape == shape
    np.testing.assert_allclose(only(found).spacing_mm, spacing, atol=1e-4)
    assert all_codes(found) == set()


def test_a_cine_is_slices_by_phases_with_its_true_gap_and_times(realdata: Path) -> None:
    found = scan([folder_in(realdata, "sunnybrook/dicoms/SCD0000301")])
    plan = only(found)
    assert plan.shape == (256, 256, 10, 20)
    # SliceLocation steps by another amount, and RepetitionTime is 3.8 ms
    np.testing.assert_allclose(plan.spacing_mm, (1.2891, 1.2891, 8.0), atol=1e-3)
    assert plan.time is not None
    assert (plan.time.how, plan.time.sure) == ("TriggerTime", "certain")
    assert plan.time.step_ms == 46.0
    assert (plan.time.times_ms[0], plan.time.times_ms[-1]) == (10.0, 886.0)
    assert (
        plan.frame_ed == 0
    )  # experts drew end diastole in phase 19, as near to the R wave on its other side
    assert all_codes(found) == set()


def test_the_heartbeat_of_a_cine_is_told_from_its_pixels(realdata: Path) -> None:
    plan = only(scan([folder_in(realdata, "sunnybrook/dicoms/SCD0000301")]))
    told = propose_ed_es(decoded(plan))
    assert told is not None
    assert told.sure == "likely"
    assert told.ed in (17, 18, 19, 0)  # experts: 19
    assert told.es in (5, 6, 7)  # experts: 6


def test_half_of_two_phases_is_refused(realdata: Path) -> None:
    found = scan([folder_in(realdata, "sunnybrook/SCD0003701/Images_og")])
    (series,) = found.series
    assert (series.instances, series.usable, series.volumes) == (10, 0, ())
    assert all_codes(found) == {"INCOMPLETE_GRID"}


def test_two_orientations_in_one_series_are_two_volumes_and_told(realdata: Path) -> None:
    found = scan([folder_in(realdata, "dicom2nifti/failing/sliceorientation/001")])
    assert [plan.shape for plan in found.series[0].volumes] == [(288, 288, 2), (288, 288, 2)]
    np.testing.assert_allclose(
        [plan.spacing_mm[2] for plan in found.series[0].volumes], (3.3, 4.4), atol=1e-3
    )
    assert all_codes(found) == {"MIXED_ORIENTATION"}


def test_volumes_in_time_that_only_instance_numbers_order_are_told(realdata: Path) -> None:
    found = scan([folder_in(realdata, "dicom2nifti/ge/fmri/001")])
    time = only(found).time
    assert time is not None
    assert (time.sure, time.step_ms) == ("guess", 2500.0)
    assert all_codes(found) == {"TIME_AMBIGUOUS"}


def test_the_times_of_an_enhanced_series_come_from_its_vendor(realdata: Path) -> None:
    time = only(scan([folder_in(realdata, "dicom2nifti/philips_enhanced/fmri/001")])).time
    assert time is not None
    assert (time.sure, time.step_ms) == ("certain", 3000.0)


def test_labels_are_listed_as_what_they_are(realdata: Path) -> None:
    found = scan([folder_in(realdata, "dcmqi"), folder_in(realdata, "ibsi_validation")])
    labels = [series for series in found.series if series.modality in ("SEG", "RTSTRUCT")]
    assert len(labels) == 8
    for series in labels:
        assert series.volumes == ()
        assert [(f.code, f.severity) for f in series.findings] == [("NOT_AN_IMAGE", "info")]
    assert len([plan for series in found.series for plan in series.volumes]) == 8
