"""Segmentations by dcmqi against the NRRD files that they were made from, and contours of a tumour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medmtl.data import ingest, open_dataset
from medmtl.data.dicom import scan
from medmtl.data.dicom.labelgrid import LabelGrid
from medmtl.data.dicom.model import Instance, Scan, VolumePlan
from medmtl.data.dicom.rasterize import area
from medmtl.data.dicom.rtmasks import region_mask
from medmtl.data.dicom.rtstruct import read_structures
from medmtl.data.dicom.seg import read_segmentation
from medmtl.data.dicom.segmasks import PlacedSegmentation, place
from medmtl.data.formats import Dicom
from medmtl.types import CaseError


@pytest.fixture(scope="module")
def dcmqi(realdata: Path) -> Path:
    path = realdata / "dcmqi" / "segmentations"
    if not path.is_dir():
        pytest.skip(f"no dcmqi data in {path}")
    return path


@pytest.fixture(scope="module")
def tumour(realdata: Path) -> Path:
    path = realdata / "ibsi_validation" / "STS_008"
    if not path.is_dir():
        pytest.skip(f"no IBSI validation data in {path}")
    return path


def label_file(path: Path) -> Instance:
    [instance] = [instance for series in scan([path]).series for instance in series.files]
    return instance


def only_plan(found: Scan) -> VolumePlan:
    [plan] = [plan for series in found.series for plan in series.volumes]
    return plan


def placed(dcmqi: Path, seg: str, images: str) -> PlacedSegmentation:
    return place(read_segmentation(label_file(dcmqi / seg)), LabelGrid.of(only_plan(scan([dcmqi / images]))))


def reference(path: Path, grid: LabelGrid) -> np.ndarray:
    """A NRRD file on the image's grid, by the positions of its voxels; both are LPS."""
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    indices = np.argwhere(array)
    points = [image.TransformIndexToPhysicalPoint([int(x), int(y), int(z)]) for z, y, x in indices]
    voxels = grid.voxels(np.array(points))
    assert np.abs(voxels - np.rint(voxels)).max() < 0.01
    made = np.zeros(grid.shape, array.dtype)
    made[tuple(np.rint(voxels).astype(int).T)] = array[tuple(indices.T)]
    return made


# ---- segmentations


@pytest.mark.parametrize(
    ("seg", "images", "nrrd"),
    [
        ("liver.dcm", "ct-3slice", "liver_seg.nrrd"),
        ("24x38x3/seg/label.seg", "24x38x3/image", "24x38x3/nrrd/label.nrrd"),
        ("23x38x3/seg/label.seg", "23x38x3/image", "23x38x3/nrrd/label.nrrd"),
        ("24x38x3/seg/label.seg", "24x38x3/multiframe", "24x38x3/nrrd/label.nrrd"),
        ("23x38x3/seg/label.seg", "23x38x3/multiframe", "23x38x3/nrrd/label.nrrd"),
        ("sparse-labelmap-noppv.dcm", "24x38x3/image", "sparse_labelmap_noppv_seg.nrrd"),
        ("sparse-labelmap-ppv5.dcm", "24x38x3/image", "sparse_labelmap_ppv5_seg.nrrd"),
    ],
)
def test_segmentations_by_dcmqi_are_their_references(dcmqi: Path, seg: str, images: str, nrrd: str) -> None:
    found = placed(dcmqi, seg, images)
    expected = reference(dcmqi / nrrd, found.grid)
    expected[expected == found.source.background] = 0  # pixel padding: no segment
    [segment] = found.source.drawn
    assert segment.label == "Liver"
    np.testing.assert_array_equal(found.mask(segment.number) * segment.number, expected)


def test_overlapping_segments_by_dcmqi_stay_apart(dcmqi: Path) -> None:
    found = placed(dcmqi, "partial_overlaps.dcm", "ct-3slice")
    assert int((found.mask(2) & found.mask(3)).sum()) == 50
    for group in (1, 2, 3):
        expected = reference(dcmqi / f"partial_overlaps-{group}.nrrd", found.grid)
        for number in np.unique(expected[expected > 0]).tolist():
            np.testing.assert_array_equal(found.mask(number), expected == number)


def test_a_segmentation_of_another_image_is_refused(dcmqi: Path) -> None:
    for seg, images in (("liver.dcm", "24x38x3/image"), ("24x38x3/seg/label.seg", "ct-3slice")):
        with pytest.raises(CaseError) as caught:
            placed(dcmqi, seg, images)
        assert caught.value.code == "LABEL_GEOMETRY_MISMATCH"


def test_a_folder_with_images_and_segmentations_becomes_a_dataset(dcmqi: Path, tmp_path: Path) -> None:
    sources = [dcmqi / "ct-3slice", dcmqi / "liver.dcm", dcmqi / "partial_overlaps.dcm"]
    made = ingest(sources, tmp_path / "out", format="dicom")
    assert (made.cases, made.refused) == (1, [])
    dataset = open_dataset(tmp_path / "out")
    assert set(dataset.columns) == {"Liver", "GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE"}
    assert set(dataset.cases[0].files) == set(dataset.columns)


# ---- contours


@pytest.mark.parametrize("modality", ["CT", "PET", "MR_T1"])
def test_a_tumour_drawn_on_three_modalities_lies_on_each_and_has_one_volume(
    tumour: Path, modality: str
) -> None:
    grid = LabelGrid.of(only_plan(scan([tumour / modality / "image"])))
    structures = read_structures(label_file(tumour / modality / "mask" / "RS.dcm"))
    [region] = structures.regions
    assert region.label.startswith("GTV_Mass")
    mask, findings = region_mask(structures, region.number, grid)
    assert findings == []
    voxel_ml = float(np.prod(grid.spacing_mm)) / 1000.0
    drawn = sum(area(grid.voxels(outline.points)[:, :2]) for outline in region.outlines) * voxel_ml
    assert drawn == pytest.approx(27.57, abs=0.02)
    assert mask.sum() * voxel_ml == pytest.approx(drawn, rel=0.015)  # PET has voxels of 72 mm3
    assert mask.any(axis=(0, 1)).sum() == 19


def test_contours_are_refused_on_slices_that_lie_a_third_of_a_slice_off(tumour: Path) -> None:
    structures = read_structures(label_file(tumour / "PET" / "mask" / "RS.dcm"))
    plan = only_plan(scan([tumour / "MR_T1" / "image"]))
    shifted = LabelGrid.of(plan)
    moved = LabelGrid(shifted.shape, 1, shifted.basis, shifted.origins - [0.0, 0.0, 1.1], shifted.index_of)
    with pytest.raises(CaseError) as caught:
        region_mask(structures, 1, moved)
    assert caught.value.code == "LABEL_GEOMETRY_MISMATCH"
    assert "mm off the nearest slice" in str(caught.value)


def test_a_study_of_three_modalities_gives_the_one_that_is_asked_for_with_its_own_contours(
    tumour: Path, tmp_path: Path
) -> None:
    voxels = {"CT": 8862, "PT": 388, "MR": 8862}
    for modality, count in voxels.items():
        reader = Dicom(select=[f"modality={modality}"], structures=["GTV=GTV_Mass*"], labels="joined")
        made = ingest(tumour, tmp_path / modality, format=reader)
        assert (made.cases, made.refused) == (1, [])
        dataset = open_dataset(tmp_path / modality)
        assert dataset.modality == modality
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(dataset.cases[0].files["segmentation"])))
        assert int((mask == 1).sum()) == count
        others = [f for f in made.findings if "labels of another series" in f.message]
        assert len(others) == 2
