"""The folder for nnU-Net: what is missing is said, and dataset.json and splits are what nnU-Net wants."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmtl.data.export import export
from medmtl.data.nifti import read_volume
from medmtl.types import ConfigError
from tests.helpers.study import write_study

Write = Callable[..., Path]


def described(folder: Path, name: str = "dataset.json") -> Any:
    return json.loads((folder / name).read_text())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


# ---- what cannot be written


def test_a_dataset_without_a_mask_column_is_refused_and_nothing_is_left(
    tmp_path: Path, tiny_dataset: Write
) -> None:
    yaml = "medmtl_dataset: 1\nname: x\nmodality: MR\nchannels: [cine]\ncolumns: {height: {kind: value}}\n"
    rows = {name: {"anatomy": "", "disease": ""} for name in "abc"}
    tiny_dataset(tmp_path / "dataset", rows, yaml)
    table = (tmp_path / "dataset/cases.csv").read_text().splitlines()
    kept = [line.split(",") for line in table]
    text = "\n".join(",".join([*line[:6], line[8]]) for line in kept) + "\n"
    (tmp_path / "dataset/cases.csv").write_text(text)
    with pytest.raises(ConfigError, match="has no mask column, and this layout is made for segmentation"):
        export(tmp_path / "dataset", tmp_path / "out", to="nnunet")
    assert names(tmp_path) == ["dataset"]


def test_a_mask_or_layout_that_is_not_there_suggests_the_nearest(tmp_path: Path, tiny_dataset: Write) -> None:
    tiny_dataset(tmp_path / "dataset")
    with pytest.raises(ConfigError, match=r"there is no mask column 'anatomie'; did you mean 'anatomy'\?"):
        export(tmp_path / "dataset", tmp_path / "out", to="nnunet", mask="anatomie")
    with pytest.raises(ConfigError, match=r"unknown layout 'nnunett'; did you mean 'nnunet'\?"):
        export(tmp_path / "dataset", tmp_path / "out", to="nnunett")


@pytest.mark.parametrize("name", ["background", "ignore"])
def test_a_structure_with_a_name_that_nnunet_keeps_is_refused(
    tmp_path: Path, tiny_dataset: Write, tiny_yaml: str, name: str
) -> None:
    tiny_dataset(tmp_path / "dataset", yaml=tiny_yaml.replace("MYO: 2", f"{name}: 2"))
    with pytest.raises(
        ConfigError, match=f"a structure of 'anatomy' is called '{name}', which has its own meaning"
    ):
        export(tmp_path / "dataset", tmp_path / "out", to="nnunet")


def test_a_dataset_of_test_cases_alone_cannot_train(tmp_path: Path, tiny_dataset: Write) -> None:
    tiny_dataset(tmp_path / "dataset", {name: {"split": "test"} for name in "abc"})
    with pytest.raises(ConfigError, match="no case of train or val has a labelled anatomy"):
        export(tmp_path / "dataset", tmp_path / "out", to="nnunet")
    assert names(tmp_path) == ["dataset"]


def test_cases_that_cannot_train_are_left_out_and_named(
    tmp_path: Path, tiny_dataset: Write, nifti: Write
) -> None:
    tiny_dataset(tmp_path / "dataset", {"a": {"anatomy": ""}})
    result = export(tmp_path / "dataset", tmp_path / "out", to="nnunet")
    assert [(f.case_id, f.severity, f.message) for f in result.refused] == [
        ("a", "warning", "left out: it has no anatomy, and a case without a mask cannot train")
    ]
    nifti(tmp_path / "dataset/volumes/b/anatomy.nii.gz", np.full((12, 10, 4, 2), 255, np.uint8))
    with pytest.raises(ConfigError):
        export(tmp_path / "dataset", tmp_path / "again", to="nnunet")


def test_a_case_without_a_split_is_left_out_where_others_have_one(
    tmp_path: Path, tiny_dataset: Write
) -> None:
    tiny_dataset(tmp_path / "dataset", {"b": {"split": ""}})
    result = export(tmp_path / "dataset", tmp_path / "out", to="nnunet")
    assert [finding.message for finding in result.refused] == ["left out: it is in no split"]


def test_other_masks_and_maps_are_said_to_be_missing(tmp_path: Path) -> None:
    write_study(tmp_path / "dataset")
    [remark] = export(tmp_path / "dataset", tmp_path / "out", to="nnunet").written.remarks
    assert remark.message == "the layout holds one mask per image: anatomy was written, and not t1, tissue"
    export(tmp_path / "dataset", tmp_path / "tissue", to="nnunet", mask="tissue")
    assert described(tmp_path / "tissue")["labels"] == {"background": 0, "healthy": 1, "scar": 2}


# ---- what is written


def test_labelled_frames_become_cases_and_the_others_are_not_written(tmp_path: Path) -> None:
    write_study(tmp_path / "dataset", frames=4, splits=("train", "val", "test"))
    result = export(tmp_path / "dataset", tmp_path / "out", to="nnunet")
    assert (result.written.cases, result.written.volumes) == (3, 6)
    frames = ("frame00", "frame03")
    assert names(tmp_path / "out/imagesTr") == [f"c{n}_{f}_0000.nii.gz" for n in (0, 1) for f in frames]
    assert names(tmp_path / "out/labelsTr") == [f"c{n}_{f}.nii.gz" for n in (0, 1) for f in frames]
    assert names(tmp_path / "out/imagesTs") == [f"c2_{f}_0000.nii.gz" for f in frames]
    assert names(tmp_path / "out/labelsTs") == [f"c2_{f}.nii.gz" for f in frames]
    image = read_volume(tmp_path / "out/imagesTr/c0_frame03_0000.nii.gz")
    whole = read_volume(tmp_path / "dataset/volumes/c0/cine.nii.gz")
    np.testing.assert_array_equal(image.array, whole.array[..., 3])


def test_a_test_case_without_labels_has_all_its_frames_and_no_label(tmp_path: Path) -> None:
    write_study(tmp_path / "dataset", frames=3, splits=("train", "test"), blank={"c1": ["anatomy"]})
    export(tmp_path / "dataset", tmp_path / "out", to="nnunet")
    assert names(tmp_path / "out/imagesTs") == [f"c1_frame0{n}_0000.nii.gz" for n in range(3)]
    assert names(tmp_path / "out/labelsTs") == []


def test_dataset_json_is_what_nnunet_version_2_wants(tmp_path: Path) -> None:
    write_study(tmp_path / "dataset", channels=("cine", "lge"), frames=1)
    export(tmp_path / "dataset", tmp_path / "out", to="nnunet")
    found = described(tmp_path / "out")
    assert found["channel_names"] == {"0": "cine", "1": "lge"}
    assert found["labels"] == {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
    assert (found["numTraining"], found["file_ending"]) == (7, ".nii.gz")
    assert (
        found["numTraining"]
        == len(names(tmp_path / "out/labelsTr"))
        == len(names(tmp_path / "out/imagesTr")) / 2
    )


def test_unlabelled_voxels_are_the_label_ignore_with_the_highest_number(
    tmp_path: Path, tiny_dataset: Write, tiny_yaml: str, nifti: Write
) -> None:
    mask = np.zeros((12, 10, 4, 2), np.uint8)
    mask[2:5, :, 1], mask[6, :, 1], mask[:, :, 3] = 3, 50, 255
    yaml = tiny_yaml.replace("LV: 3}}\n  t1", "LV: 3, scar: 50}}\n  t1")
    assert yaml != tiny_yaml
    nifti(tiny_dataset(tmp_path / "dataset", yaml=yaml) / "volumes/a/anatomy.nii.gz", mask)
    export(tmp_path / "dataset", tmp_path / "out", to="nnunet")
    labels = described(tmp_path / "out")["labels"]
    assert labels == {"background": 0, "RV": 1, "MYO": 2, "LV": 3, "scar": 4, "ignore": 5}
    written = read_volume(tmp_path / "out/labelsTr/a_frame00.nii.gz").array
    assert sorted(np.unique(written).tolist()) == [0, 3, 4, 5]
    assert (written[:, :, 3] == 5).all()


def test_a_ct_channel_is_called_ct_so_that_nnunet_normalizes_it_as_such(
    tmp_path: Path, tiny_dataset: Write, tiny_yaml: str
) -> None:
    tiny_dataset(tmp_path / "dataset", yaml=tiny_yaml.replace("modality: MR", "modality: CT"))
    export(tmp_path / "dataset", tmp_path / "out", to="nnunet")
    assert described(tmp_path / "out")["channel_names"] == {"0": "CT"}


def test_the_validation_split_is_the_one_fold(tmp_path: Path) -> None:
    write_study(tmp_path / "dataset", splits=("train", "train", "val", "test"), frames=2)
    export(tmp_path / "dataset", tmp_path / "out", to="nnunet")
    assert described(tmp_path / "out", "splits_final.json") == [
        {
            "train": ["c0_frame00", "c0_frame01", "c1_frame00", "c1_frame01"],
            "val": ["c2_frame00", "c2_frame01"],
        }
    ]


def test_without_validation_five_folds_keep_patients_together(tmp_path: Path) -> None:
    cells = {f"c{n}": {"patient": f"p{n // 2}"} for n in range(12)}
    write_study(tmp_path / "dataset", splits=["train"] * 12, cells=cells, frames=2)
    export(tmp_path / "dataset", tmp_path / "out", to="nnunet")
    folds = described(tmp_path / "out", "splits_final.json")
    assert len(folds) == 5
    everyone = {f"c{n}_frame0{t}" for n in range(12) for t in range(2)}
    assert sorted(name for fold in folds for name in fold["val"]) == sorted(everyone)

    def patients(part: list[str]) -> set[int]:
        return {int(name[1:].split("_")[0]) // 2 for name in part}

    for fold in folds:
        assert {*fold["train"], *fold["val"]} == everyone
        assert not patients(fold["train"]) & patients(fold["val"])


def test_targets_are_a_table_with_a_row_per_volume(tmp_path: Path) -> None:
    write_study(tmp_path / "dataset", splits=("train", "test"), frames=2)
    export(tmp_path / "dataset", tmp_path / "out", to="nnunet")
    with (tmp_path / "out/targets.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [
        (row["case"], row["source_case"], row["patient"], row["split"], row["frame"]) for row in rows
    ] == [
        ("c0_frame00", "c0", "c0", "train", "0"),
        ("c0_frame01", "c0", "c0", "train", "1"),
        ("c1_frame00", "c1", "c1", "test", "0"),
        ("c1_frame01", "c1", "c1", "test", "1"),
    ]
    assert rows[0]["disease"] == "small"
    assert float(rows[0]["LV_EF"]) > 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "Dataset027_Hearts",
            "after planning, copy splits_final.json into nnUNet_preprocessed/DatasetNNN_Name",
        ),
        (
            "out",
            "name the folder DatasetNNN_Name and put it into nnUNet_raw; after planning, copy",
        ),
    ],
)
def test_what_has_to_be_done_with_the_folder_is_said(
    tmp_path: Path, tiny_dataset: Write, name: str, expected: str
) -> None:
    tiny_dataset(tmp_path / "dataset")
    assert export(tmp_path / "dataset", tmp_path / name, to="nnunet").note.startswith(expected)
