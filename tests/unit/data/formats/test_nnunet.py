"""nnU-Net's raw layout, both versions: regions, the ignore label, missing channels, broken descriptions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from medmtl.data.formats import LoadedCase, NNUNet, find_format
from medmtl.types import CaseError, DatasetError
from tests.helpers.layouts import blobs, noise, save, write_nnunet_v1

Write = Callable[..., Path]
REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}


def load(root: Path, number: int = 0) -> LoadedCase:
    return list(NNUNet().read(root))[number].load()


def refusal(root: Path) -> tuple[str, str]:
    with pytest.raises(CaseError) as caught:
        load(root)
    assert str(root) not in str(caught.value)
    return caught.value.code, str(caught.value)


def test_a_broken_description_is_named_with_its_line(tmp_path: Path, nnunet: Write) -> None:
    (nnunet(tmp_path) / "dataset.json").write_text('{\n "labels": {,}}')
    reader = find_format(tmp_path)
    assert isinstance(reader, NNUNet)
    with pytest.raises(DatasetError, match=r"dataset.json: is not JSON, line 2"):
        reader.schema(tmp_path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"file_ending": ".png"}, "'file_ending': found '.png'; volumes end in .nii.gz"),
        ({"channel_names": ["T2"]}, "'channel_names': found ['T2']; it has to be an object"),
        ({"channel_names": {"1": "T2", "2": "ADC"}}, "found the channels '1', '2'; number them 0, 1, ..."),
        ({"labels": {"background": 0}}, "'labels': names no structure besides the background"),
        ({"labels": {"background": 0, "a": "1"}}, "'labels', 'a': found '1'; a label is a whole number"),
        ({"labels": {"background": 0, "a": True}}, "'labels', 'a': found True; a label is a whole number"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "'labels': 'a' and 'b' have the same value 1"),
        ({"labels": {"background": 0, "a": []}}, "'labels', 'a': found []"),
        (
            {"labels": {"background": 0, "a b": [1, 2], "a_b": [2]}},
            "two regions would both be the column 'a_b'",
        ),
        ({"dataset": ["a"]}, "'dataset': found ['a']; it has to be an object of cases"),
        ({"dataset": {"a": {"images": ["x"], "label": "y"}}}, "has to name an image per channel (2)"),
        ({"medmtl": {"columns": {}}}, "'medmtl': found 0 mask columns; an export has one"),
    ],
)
def test_a_description_that_cannot_be_used_is_named(
    tmp_path: Path, nnunet: Write, changes: dict[str, Any], expected: str
) -> None:
    nnunet(tmp_path, **changes)
    with pytest.raises(DatasetError) as caught:
        list(NNUNet().read(tmp_path))
    assert expected in str(caught.value)


@pytest.mark.parametrize("text", ["{}", "[]", '[{"train": ["a"]}]', "[1]", "[{"])
def test_splits_that_are_no_folds_are_named(tmp_path: Path, nnunet: Write, text: str) -> None:
    (nnunet(tmp_path) / "splits_final.json").write_text(text)
    with pytest.raises(DatasetError, match=r"splits_final.json: is no list of folds"):
        list(NNUNet().read(tmp_path))


def test_a_missing_channel_refuses_its_case(tmp_path: Path, nnunet: Write) -> None:
    (nnunet(tmp_path) / "imagesTr/prostate_00_0001.nii.gz").unlink()
    assert refusal(tmp_path) == (
        "NO_USABLE_SERIES",
        "prostate_00: the image of channel 1 (ADC) is missing",
    )


def test_channels_on_different_grids_refuse_their_case(tmp_path: Path, nnunet: Write) -> None:
    save(nnunet(tmp_path) / "imagesTr/prostate_00_0001.nii.gz", noise(0, (12, 10, 5)))
    assert refusal(tmp_path)[0] == "MIXED_GRID"


@pytest.mark.parametrize(
    ("mask", "code", "expected"),
    [
        (
            blobs({1: 3, 7: 1}),
            "LABEL_VALUES",
            "labelsTr/prostate_00.nii.gz: found the value(s) 7; known are 0",
        ),
        (blobs({1: 3}, (12, 10, 5)), "LABEL_GEOMETRY_MISMATCH", "labelsTr/prostate_00.nii.gz: has grid"),
    ],
)
def test_a_label_that_cannot_be_used_refuses_its_case(
    tmp_path: Path, nnunet: Write, mask: Any, code: str, expected: str
) -> None:
    save(nnunet(tmp_path) / "labelsTr/prostate_00.nii.gz", mask)
    found = refusal(tmp_path)
    assert found[0] == code
    assert expected in found[1]


def test_a_training_case_without_a_label_is_unlabelled(tmp_path: Path, nnunet: Write) -> None:
    (nnunet(tmp_path) / "labelsTr/prostate_00.nii.gz").unlink()
    assert load(tmp_path).labels == {}


def test_the_ignore_label_means_not_labelled(tmp_path: Path, nnunet: Write) -> None:
    nnunet(tmp_path, labels={"background": 0, "PZ": 1, "TZ": 2, "ignore": 3})
    save(tmp_path / "labelsTr/prostate_00.nii.gz", blobs({1: 5, 2: 4, 3: 6}))
    mask = load(tmp_path).labels["segmentation"].array
    assert [int((mask == value).sum()) for value in (1, 2, 3, 255)] == [5, 4, 0, 6]
    assert NNUNet().schema(tmp_path).columns["segmentation"].labels == {"PZ": 1, "TZ": 2}


def test_regions_become_a_mask_column_each(tmp_path: Path, nnunet: Write) -> None:
    nnunet(tmp_path, labels=REGIONS, regions_class_order=[1, 2, 3])
    save(tmp_path / "labelsTr/prostate_00.nii.gz", blobs({1: 5, 2: 4, 3: 3, 4: 2}))
    schema = NNUNet().schema(tmp_path)
    assert {name: dict(column.labels) for name, column in schema.columns.items()} == {
        "whole_tumor": {"whole tumor": 1},
        "core": {"core": 1},
        "enhancing": {"enhancing": 1},
    }
    labels = load(tmp_path).labels
    counts = {name: [int((volume.array == v).sum()) for v in (1, 255)] for name, volume in labels.items()}
    assert counts == {"whole_tumor": [12, 2], "core": [7, 2], "enhancing": [3, 2]}


def test_lists_of_one_value_are_plain_labels(tmp_path: Path, nnunet: Write) -> None:
    nnunet(tmp_path, labels={"background": 0, "PZ": [1], "TZ": [2]})
    assert NNUNet().schema(tmp_path).columns["segmentation"].labels == {"PZ": 1, "TZ": 2}


def test_version_1_is_read_alike(tmp_path: Path, nnunet: Write) -> None:
    write_nnunet_v1(tmp_path / "Task005_Prostate")
    nnunet(tmp_path / "Dataset005_Prostate")
    one, two = (find_format(tmp_path / name) for name in ("Task005_Prostate", "Dataset005_Prostate"))
    assert isinstance(one, NNUNet)
    schemas = [
        reader.schema(tmp_path / name)
        for reader, name in ((one, "Task005_Prostate"), (two, "Dataset005_Prostate"))
    ]
    assert schemas[0] == schemas[1]
    for first, second in zip(
        one.read(tmp_path / "Task005_Prostate"), two.read(tmp_path / "Dataset005_Prostate"), strict=True
    ):
        a, b = first.load(), second.load()
        assert (first.case_id, a.split) == (second.case_id, b.split)
        for x, y in zip([*a.images, *a.labels.values()], [*b.images, *b.labels.values()], strict=True):
            np.testing.assert_array_equal(x.array, y.array)


def test_the_first_fold_says_who_validates(tmp_path: Path, nnunet: Write) -> None:
    fold = {"train": ["prostate_00"], "val": ["prostate_01"]}
    (nnunet(tmp_path) / "splits_final.json").write_text(json.dumps([fold, {"train": [], "val": []}]))
    assert [raw.load().split for raw in NNUNet().read(tmp_path)] == ["train", "val", "test"]


def test_other_endings_are_read(tmp_path: Path, nnunet: Write) -> None:
    nnunet(tmp_path, ("CT",), file_ending=".nrrd")
    for path in list(tmp_path.rglob("*.nii.gz")):
        sitk.WriteImage(sitk.ReadImage(path), str(path).replace(".nii.gz", ".nrrd"))
        path.unlink()
    case = load(tmp_path)
    np.testing.assert_array_equal(case.images[0].array, noise(0))
    assert set(case.labels) == {"segmentation"}


def test_a_list_of_cases_wins_over_the_folder_of_training_images(tmp_path: Path, nnunet: Write) -> None:
    images = [f"imagesTr/prostate_00_{channel:04d}.nii.gz" for channel in range(2)]
    listed = {"first": {"images": images, "label": "labelsTr/prostate_00.nii.gz"}}
    nnunet(tmp_path, dataset=listed)
    assert [raw.case_id for raw in NNUNet().read(tmp_path)] == ["first", "prostate_02"]
    np.testing.assert_array_equal(load(tmp_path).images[1].array, noise(1))


@pytest.mark.parametrize(
    ("channels", "expected", "modality"),
    [
        (("CT",), ("CT",), "CT"),
        (("FDG-PET / SUV",), ("FDG-PET_SUV",), "PT"),
        (("a", "a "), ("a_0", "a_1"), "OT"),
    ],
)
def test_names_of_channels_can_stand_in_file_names(
    tmp_path: Path, nnunet: Write, channels: tuple[str, ...], expected: tuple[str, ...], modality: str
) -> None:
    schema = NNUNet().schema(nnunet(tmp_path, channels))
    assert (schema.channels, schema.modality) == (expected, modality)
