from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medmtl.data import open_dataset
from medmtl.plan import Labels, Load, Wishes, measure_voxels, plan_dataset, planned_cases
from medmtl.plan.outliers import misfits, missing_classes, spacing_outliers
from medmtl.types import ConfigError, DatasetError
from tests.helpers.cohorts import budget, cohort, mixed

Write = Callable[..., Path]
TINY = {"widths": [4, 8]}


# --------------------------------------------------------------------------------------------- unhappy


def test_one_case_with_other_voxels_is_named_with_both_sizes() -> None:
    found = mixed(*[((1.5, 1.5, 8.0), (96, 96, 10))] * 9, ((0.15, 0.15, 8.0), (96, 96, 10)))
    (sentence,) = spacing_outliers(found)
    assert sentence.startswith(
        "case09: has voxels of 0.15 x 0.15 x 8 mm, the median case of 1.5 x 1.5 x 8 mm"
    )


def test_many_outliers_are_counted_not_listed() -> None:
    found = mixed(*[((1.0, 1.0, 1.0), (9, 9, 9))] * 20, *[((9.0, 1.0, 1.0), (9, 9, 9))] * 8)
    sentences = spacing_outliers(found)
    assert len(sentences) == 6
    assert sentences[-1] == "and 3 more cases have voxels that far from the median"


def test_a_class_that_nobody_has_is_named() -> None:
    found = cohort(
        (1.0, 1.0, 1.0), (9, 9, 9), labels={"disease": Labels("category", 8, {"A": 8, "B": 0, "C": 0})}
    )
    assert missing_classes(found, "training cases") == [
        "disease: none of the 8 labelled training cases is B or C"
    ]
    assert missing_classes(replace(found, labels={"disease": Labels("category", 0, {"A": 0})}), "cases") == []


def test_a_plan_for_other_data_is_told_by_its_patch_and_its_spacing() -> None:
    found = cohort((1.5, 1.5, 8.0), (96, 96, 10))
    assert misfits((96, 96, 16), (1.5, 1.5, None), found) == []
    deep, fine = misfits((96, 96, 64), (1.5, 1.5, 1.0), cohort((1.5, 1.5, 8.0), (96, 96, 2)))
    assert deep.startswith("patch: 64 voxels along z, and no case has more than 16 there")
    assert fine.startswith("spacing_mm: 1 mm along z, and the median case has 8 mm")


def test_without_a_split_there_is_nothing_to_plan_for(tmp_path: Path, tiny_dataset: Write) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path / "tiny"))
    none = replace(dataset, cases=tuple(replace(case, split="test") for case in dataset.cases))
    with pytest.raises(DatasetError, match="no case has split = train or val"):
        planned_cases(none)


def test_what_cannot_fit_is_refused_with_the_batch_or_patch_that_would(
    tmp_path: Path, tiny_dataset: Write
) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path / "tiny"))
    wide = {"widths": [32, 64], "kernels": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]]}
    wishes = Wishes(patch=[128, 128, 128], backbone=wide, batch_size=8, normalization="none")
    with pytest.raises(
        ConfigError,
        match=r"8 cases of 1 frames in patches of 128 x 128 x 128 .* use a training\.batch_size of 3",
    ):
        plan_dataset(dataset, wishes, budget(8), Load())
    wishes = replace(wishes, patch=[512, 512, 512], batch_size=1)
    with pytest.raises(
        ConfigError, match=r"make preparation\.patch about 1\d\d x 1\d\d x 1\d\d, or leave it out"
    ):
        plan_dataset(dataset, wishes, budget(8), Load())


def test_what_may_not_fit_is_warned_of(
    tmp_path: Path, tiny_dataset: Write, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path / "tiny"))
    wide = {"widths": [32, 64], "kernels": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]]}
    wishes = Wishes(patch=[128, 128, 128], backbone=wide, batch_size=4, normalization="none")
    with caplog.at_level(logging.WARNING):
        plan_dataset(dataset, wishes, budget(8), Load())
    assert any("may take" in record.message for record in caplog.records)


# ----------------------------------------------------------------------------------------------- voxels


def test_intensities_are_those_of_labelled_voxels_and_volumes_in_millilitres(
    tmp_path: Path, tiny_dataset: Write, nifti: Write
) -> None:
    root = tiny_dataset(tmp_path / "tiny")
    mask = np.zeros((12, 10, 4, 2), np.uint8)
    mask[2:7, 3:9, 1:3] = 3
    image = np.where(mask == 3, 500.0, 1.0).astype(np.float32)
    image[0, 0, 0] = 9
    for case in ("a", "b", "c"):
        nifti(root / f"volumes/{case}/anatomy.nii.gz", mask)
        nifti(root / f"volumes/{case}/image.nii.gz", image)
    dataset = open_dataset(root)
    found = measure_voxels(dataset, dataset.cases)
    assert found is not None
    assert found.cases == 3
    assert (found.intensities[0].low, found.intensities[0].high) == (500, 500)
    structure = found.structures["anatomy"]["LV"]
    assert structure.volume_ml == pytest.approx(60 * 1.5 * 1.5 * 8 / 1000)
    assert structure.cases == 3
    assert found.structures["anatomy"]["RV"].cases == 0
    assert found.extent_mm == pytest.approx((5 * 1.5, 6 * 1.5, 2 * 8.0))


def test_a_case_that_cannot_be_read_is_left_out_of_the_measurement(
    tmp_path: Path, tiny_dataset: Write
) -> None:
    root = tiny_dataset(tmp_path / "tiny")
    dataset = open_dataset(root)
    path = dataset.cases[0].images[0]
    path.write_bytes(path.read_bytes()[:400])
    seen: list[tuple[int, int]] = []
    found = measure_voxels(dataset, dataset.cases, lambda done, n: seen.append((done, n)))
    assert found is not None
    assert found.cases == 2
    assert seen[-1] == (3, 3)
    assert measure_voxels(dataset, dataset.cases[:1]) is None
