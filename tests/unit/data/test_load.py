from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medmtl.data import Column, Dataset, open_dataset
from medmtl.data.load import prepare_case, prepare_cases
from medmtl.data.prepare import Preparation
from medmtl.types import CaseError

Write = Callable[..., Path]

KEEP = Preparation((None, None, None), (16, 16, 4))


@pytest.fixture
def dataset(tmp_path: Path, tiny_dataset: Write) -> Dataset:
    return open_dataset(tiny_dataset(tmp_path / "tiny"))


def test_a_prepared_case_holds_plain_tensors_on_one_grid(dataset: Dataset) -> None:
    prepared, findings = prepare_cases(dataset, dataset.cases, Preparation((1.2, 1.2, None), (16, 16, 4)))
    assert findings == []
    assert [case.case_id for case in prepared] == ["a", "b", "c"]
    for case in prepared:
        tensors = [case.image, case.covariates, *case.masks.values(), *case.maps.values()]
        assert {type(tensor) for tensor in tensors} == {torch.Tensor}
        assert case.image.shape[0] == 2
        assert case.masks["anatomy"].shape == (2, *case.image.shape[2:])
        assert np.allclose(case.spacing_mm, (1.2, 1.2, 8.0), rtol=1e-4)
        assert np.allclose(np.linalg.norm(case.affine[:3, :3], axis=0), case.spacing_mm)
        assert (case.frame_ed, case.frame_es) == (0, 1)
        assert case.labelled == {"anatomy": (True, True)}


def test_image_and_mask_stay_on_top_of_each_other(tmp_path: Path, tiny_dataset: Write, nifti: Write) -> None:
    root = tiny_dataset(tmp_path / "tiny")
    mask = np.zeros((12, 10, 4, 2), np.uint8)
    mask[2:7, 3:9, 1:3] = 3
    mask[:, :, :, 1] = mask[::-1, :, :, 0]
    nifti(root / "volumes/a/anatomy.nii.gz", mask)
    nifti(root / "volumes/a/image.nii.gz", mask.astype(np.float32) * 50 + 7)
    dataset = open_dataset(root)
    for spacing in ((None, None, None), (1.0, 1.0, None), (2.0, 2.0, None), (1.5, 1.5, 4.0)):
        case = prepare_case(dataset.cases[0], dataset.columns, Preparation(spacing, (16, 16, 4), "none"))
        bright = case.image[:, 0] > 7 + 75
        assert (bright == (case.masks["anatomy"] == 3)).float().mean() > 0.999


def test_values_are_indices_and_numbers_and_blank_is_absent(dataset: Dataset) -> None:
    case = dataset.cases[0]
    targets: dict[str, Any] = {"disease": "MINF", "height": 171.0, "LV_EDV": math.nan, "LV_EF": None}
    prepared = prepare_case(case, dataset.columns, KEEP, targets=targets, covariates=["height", "LV_EDV"])
    assert prepared.values == {"disease": 1.0, "height": 171.0}
    assert prepared.covariates[0] == 171
    assert prepared.covariates.isnan().tolist() == [False, True]
    assert prepare_case(case, dataset.columns, KEEP, targets={}).values == {}
    assert prepare_case(case, dataset.columns, KEEP, targets={}).covariates.shape == (0,)


def test_derived_values_come_from_the_masks_in_millilitres(dataset: Dataset) -> None:
    prepared, _ = prepare_cases(dataset, dataset.cases[:1], KEEP)
    assert prepared[0].values["LV_EDV"] == pytest.approx(40 * 1.5 * 1.5 * 8 / 1000)
    assert prepared[0].values["LV_EF"] == pytest.approx(60)


def test_only_wanted_labels_are_read(dataset: Dataset) -> None:
    prepared, _ = prepare_cases(dataset, dataset.cases[:1], KEEP, wanted=["disease"])
    assert prepared[0].masks == {}
    assert list(prepared[0].values) == ["disease"]
    assert prepared[0].centre == (5.5, 4.5, 1.5)


def test_a_zero_is_a_value(dataset: Dataset) -> None:
    columns = {"score": Column("score", "value")}
    assert prepare_case(dataset.cases[0], columns, KEEP, targets={"score": 0.0}).values == {"score": 0.0}


def test_frames_that_nobody_labelled_are_known(tmp_path: Path, tiny_dataset: Write, nifti: Write) -> None:
    root = tiny_dataset(tmp_path / "tiny")
    mask = np.zeros((12, 10, 4, 2), np.uint8)
    mask[..., 1] = 255
    nifti(root / "volumes/a/anatomy.nii.gz", mask)
    dataset = open_dataset(root)
    prepared, _ = prepare_cases(dataset, dataset.cases[:1], KEEP)
    assert prepared[0].labelled == {"anatomy": (True, False)}
    assert "LV_EF" not in prepared[0].values


def test_a_mask_with_another_number_of_frames_is_refused(dataset: Dataset, nifti: Write) -> None:
    nifti(dataset.root / "volumes/a/anatomy.nii.gz", np.zeros((12, 10, 4, 3), np.uint8))
    with pytest.raises(CaseError, match=r"anatomy\.nii\.gz: has 3 frames, its image has 2") as caught:
        prepare_case(dataset.cases[0], dataset.columns, KEEP)
    assert caught.value.code == "LABEL_GEOMETRY_MISMATCH"


def test_a_case_that_cannot_be_used_becomes_a_finding_and_the_others_go_on(
    dataset: Dataset, nifti: Write
) -> None:
    assert not dataset.targets.empty  # read while the files are whole
    nifti(dataset.root / "volumes/a/image.nii.gz", np.full((12, 10, 4, 2), np.nan, np.float32))
    nifti(dataset.root / "volumes/b/anatomy.nii.gz", np.full((12, 10, 4, 2), 9, np.uint8))
    seen: list[tuple[int, int]] = []
    prepared, findings = prepare_cases(
        dataset, dataset.cases, KEEP, progress=lambda done, total: seen.append((done, total))
    )
    assert [case.case_id for case in prepared] == ["c"]
    assert [(f.case_id, f.code, f.severity) for f in findings] == [
        ("a", "NOT_AN_IMAGE", "error"),
        ("b", "LABEL_VALUES", "error"),
    ]
    assert "image.nii.gz" in findings[0].message
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_one_truncated_mask_does_not_stop_the_other_cases(dataset: Dataset, nifti: Write) -> None:
    mask = np.random.default_rng(0).integers(0, 4, (12, 10, 4, 2)).astype(np.uint8)
    path = nifti(dataset.cases[0].files["anatomy"], mask)
    path.write_bytes(path.read_bytes()[:-100])
    prepared, findings = prepare_cases(dataset, dataset.cases, KEEP)
    assert [case.case_id for case in prepared] == ["b", "c"]
    assert [(f.case_id, f.code) for f in findings] == [("a", "TRUNCATED")]
    assert prepared[0].values["LV_EF"] == pytest.approx(60)


def test_voxel_sizes_can_be_taken_from_pixdim(tmp_path: Path, dataset: Dataset, nifti: Write) -> None:
    image = nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(12, 10, 4)), acdc=True)
    case = replace(dataset.cases[0], images=(image,), files={})
    with pytest.raises(CaseError, match=r"affine says voxels of 1 x 1 x 1 mm and its pixdim 1\.5 x 1\.5 x 8"):
        prepare_case(case, dataset.columns, KEEP)
    prepared = prepare_case(case, dataset.columns, KEEP, spacing_from_pixdim=True)
    assert np.allclose(prepared.spacing_mm, (1.5, 1.5, 8.0))
