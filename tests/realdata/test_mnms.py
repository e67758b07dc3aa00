"""Patients of M&Ms as they lie there: read without being told anything, labels by name, places kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmtl.data import Dataset, check_volumes, ingest, open_dataset
from medmtl.data.export import export
from medmtl.data.formats import MnMs, recognize
from medmtl.data.nifti import frames_first, read_volume


@pytest.fixture(scope="module")
def source(realdata: Path) -> Path:
    path = realdata / "mnms"
    if MnMs().recognizes(path) is None:
        pytest.skip(f"no M&Ms in {path}")
    return path


@pytest.fixture(scope="module")
def dataset(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    result = ingest(source, tmp_path_factory.mktemp("mnms") / "dataset")
    assert result.refused == []
    return open_dataset(result.dataset_path)


def masks(dataset: Dataset) -> dict[str, np.ndarray]:
    """By case: the mask, frames first."""
    return {
        case.case_id: frames_first(read_volume(case.files["anatomy"]).array)
        for case in dataset.cases
        if "anatomy" in case.files
    }


def centre(mask: np.ndarray) -> np.ndarray:
    """Centre of the voxels of a structure in the plane."""
    return np.argwhere(mask)[:, :2].mean(axis=0)


def test_the_folder_is_recognized_and_says_why(source: Path) -> None:
    found = recognize(source)
    assert found.name == "mnms"
    assert "the short-axis file" in found.because


def test_what_ingest_wrote_has_no_errors(dataset: Dataset) -> None:
    found = [finding for case in dataset.cases for finding in check_volumes(dataset, case)]
    assert [finding for finding in found if finding.severity in ("error", "warning")] == []


def test_the_left_ventricle_lies_inside_the_myocardium_and_the_right_beside_it(dataset: Dataset) -> None:
    labels: Mapping[str, int] = dataset.columns["anatomy"].labels
    assert masks(dataset)
    for frames in masks(dataset).values():
        for frame in frames:
            if (frame == 255).all():
                continue
            lv, myo, rv = (centre(frame == labels[name]) for name in ("LV", "MYO", "RV"))
            assert np.linalg.norm(lv - myo) < 0.5 * np.linalg.norm(rv - myo)


def test_voxels_and_places_are_those_of_the_files(source: Path, dataset: Dataset) -> None:
    names = {1: "LV", 2: "MYO", 3: "RV"}  # of the challenge
    codes = dataset.columns["anatomy"].labels
    for case in dataset.cases:
        made = read_volume(case.images[0])
        for frame, phase in ((case.frame_ed, "ED"), (case.frame_es, "ES")):
            path = source / f"{case.case_id}_sa_{phase}.nii.gz"
            if frame is None or not path.is_file():
                continue
            original = nib.load(path)
            np.testing.assert_allclose(made.geometry.affine, original.affine, atol=1e-3)
            np.testing.assert_allclose(
                frames_first(made.array)[frame], np.asanyarray(original.dataobj), rtol=1e-6
            )
            truth = np.asanyarray(nib.load(str(path).replace(".nii.gz", "_gt.nii.gz")).dataobj)
            mask = frames_first(read_volume(case.files["anatomy"]).array)[frame]
            for value, name in names.items():
                np.testing.assert_array_equal(mask == codes[name], truth == value)


def test_the_volumes_are_those_of_a_heart(dataset: Dataset) -> None:
    for case in dataset.cases:
        row = dataset.targets.loc[case.case_id]
        assert 40 < row["LV_EDV"] < 400
        assert 10 < row["LV_EF"] < 85
        assert 40 < row["RV_EDV"] < 400
        assert 20 < row["MYO_mass"] < 400


@pytest.mark.parametrize("layout", ["nnunet", "msd", "bids"])
def test_it_survives_the_way_through_another_layout(dataset: Dataset, tmp_path: Path, layout: str) -> None:
    export(dataset.root, tmp_path / "there", to=layout)
    ingest(tmp_path / "there", tmp_path / "back")
    back = open_dataset(tmp_path / "back")
    before = [frame for frames in masks(dataset).values() for frame in frames if (frame != 255).any()]
    after = [frame for frames in masks(back).values() for frame in frames if (frame != 255).any()]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    affine = dataset.geometry[dataset.cases[0].case_id].affine
    np.testing.assert_allclose(back.geometry[back.cases[0].case_id].affine, affine, atol=1e-4)
