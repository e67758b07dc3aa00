"""The decathlon's layout as others read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from medmtl.data.export import export
from medmtl.data.nifti import read_volume
from medmtl.types import ConfigError
from tests.helpers.study import write_study

Write = Callable[..., Path]


def described(folder: Path) -> Any:
    return json.loads((folder / "dataset.json").read_text())


def test_a_dataset_of_test_cases_alone_cannot_train(tmp_path: Path, tiny_dataset: Write) -> None:
    tiny_dataset(tmp_path / "dataset", {name: {"split": "test"} for name in "abc"})
    with pytest.raises(ConfigError, match="no case of train or val has a labelled anatomy"):
        export(tmp_path / "dataset", tmp_path / "out", to="msd")


def test_the_description_lists_what_is_there(tmp_path: Path) -> None:
    write_study(tmp_path / "dataset", splits=("train", "val", "test"), frames=1)
    export(tmp_path / "dataset", tmp_path / "out", to="msd")
    found = described(tmp_path / "out")
    assert found["training"] == [
        {"image": f"./imagesTr/c{n}.nii.gz", "label": f"./labelsTr/c{n}.nii.gz"} for n in (0, 1)
    ]
    assert found["test"] == ["./imagesTs/c2.nii.gz"]
    assert (found["numTraining"], found["numTest"], found["tensorImageSize"]) == (2, 1, "3D")
    assert found["labels"] == {"0": "background", "1": "RV", "2": "MYO", "3": "LV"}
    assert found["modality"] == {"0": "cine"}


def test_channels_are_the_last_axis(tmp_path: Path) -> None:
    write_study(tmp_path / "dataset", channels=("cine", "lge"), frames=1)
    export(tmp_path / "dataset", tmp_path / "out", to="msd")
    image = read_volume(tmp_path / "out/imagesTr/c0.nii.gz").array
    for number, name in enumerate(("cine", "lge")):
        expected = read_volume(tmp_path / f"dataset/volumes/c0/{name}.nii.gz").array
        np.testing.assert_array_equal(image[..., number], expected)
    assert described(tmp_path / "out")["tensorImageSize"] == "4D"


def test_unlabelled_voxels_are_called_ignore(tmp_path: Path, tiny_dataset: Write, nifti: Write) -> None:
    mask = np.zeros((12, 10, 4, 2), np.uint8)
    mask[2, :, 1], mask[:, :, 3] = 3, 255
    nifti(tiny_dataset(tmp_path / "dataset") / "volumes/a/anatomy.nii.gz", mask)
    export(tmp_path / "dataset", tmp_path / "out", to="msd")
    assert described(tmp_path / "out")["labels"]["4"] == "ignore"


def test_monai_reads_the_list(tmp_path: Path) -> None:
    write_study(tmp_path / "dataset", splits=("train", "train", "test"), frames=2)
    export(tmp_path / "dataset", tmp_path / "out", to="msd")
    listed = load_decathlon_datalist(tmp_path / "out/dataset.json", True, "training")
    assert [Path(entry["label"]).name for entry in listed] == [
        f"c{n}_frame0{t}.nii.gz" for n in (0, 1) for t in (0, 1)
    ]
    assert all(Path(entry["image"]).is_file() and Path(entry["label"]).is_file() for entry in listed)
