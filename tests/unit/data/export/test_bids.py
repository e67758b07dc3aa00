"""A dataset as BIDS: names, tables and what is not part of the standard."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmtl.data import ingest, open_dataset
from medmtl.data.export import export
from medmtl.data.nifti import read_volume
from medmtl.types import ConfigError
from tests.helpers.study import write_study

Write = Callable[..., Path]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.nii.gz"))


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def test_one_mask_cannot_be_chosen_since_all_are_written(tmp_path: Path, tiny_dataset: Write) -> None:
    tiny_dataset(tmp_path / "dataset")
    with pytest.raises(ConfigError, match="BIDS holds all masks; leave out the choice of 'anatomy'"):
        export(tmp_path / "dataset", tmp_path / "out", to="bids", mask="anatomy")


def test_names_follow_subjects_and_masks_lie_below_derivatives(tmp_path: Path) -> None:
    write_study(tmp_path / "dataset", splits=("train",), channels=("T1w", "late-gd"))
    export(tmp_path / "dataset", tmp_path / "out", to="bids")
    assert files(tmp_path / "out") == [
        "derivatives/medmtl/sub-c0/anat/sub-c0_desc-anatomy_dseg.nii.gz",
        "derivatives/medmtl/sub-c0/anat/sub-c0_desc-t1_map.nii.gz",
        "derivatives/medmtl/sub-c0/anat/sub-c0_desc-tissue_dseg.nii.gz",
        "sub-c0/anat/sub-c0_T1w.nii.gz",
        "sub-c0/anat/sub-c0_acq-lategd_MR.nii.gz",
    ]
    assert (tmp_path / "out/.bidsignore").read_text() == "**/*_MR.nii.gz\n"
    table = rows(tmp_path / "out/derivatives/medmtl/desc-anatomy_dseg.tsv")
    assert [(row["index"], row["name"]) for row in table] == [
        ("1", "RV"),
        ("2", "MYO"),
        ("3", "LV"),
        ("255", "unlabelled"),
    ]
    assert load(tmp_path / "out/derivatives/medmtl/dataset_description.json")["DatasetType"] == "derivative"


@pytest.mark.parametrize(
    ("modality", "expected"),
    [("CT", "sub-pa/ct/sub-pa_acq-cine_ct.nii.gz"), ("PT", "sub-pa/pet/sub-pa_pet.nii.gz")],
)
def test_other_modalities_have_their_folders(
    tmp_path: Path, tiny_dataset: Write, tiny_yaml: str, modality: str, expected: str
) -> None:
    tiny_dataset(tmp_path / "dataset", yaml=tiny_yaml.replace("modality: MR", f"modality: {modality}"))
    export(tmp_path / "dataset", tmp_path / "out", to="bids")
    assert expected in files(tmp_path / "out")
    ingest(tmp_path / "out", tmp_path / "back")
    assert open_dataset(tmp_path / "back").modality == modality


def test_participants_have_their_targets_and_json_says_what_they_are(tmp_path: Path) -> None:
    write_study(tmp_path / "dataset", splits=("train", "test"), blank={"c1": ["height"]})
    export(tmp_path / "dataset", tmp_path / "out", to="bids")
    one, two = rows(tmp_path / "out/participants.tsv")
    assert {
        key: one[key] for key in ("participant_id", "patient", "case_id", "split", "disease", "height")
    } == {
        "participant_id": "sub-c0",
        "patient": "c0",
        "case_id": "c0",
        "split": "train",
        "disease": "small",
        "height": "160",
    }
    assert (two["height"], two["frame_es"]) == ("n/a", "1")
    meanings = load(tmp_path / "out/participants.json")
    assert meanings["height"] == {"Units": "cm"}
    assert meanings["disease"] == {"Levels": {"small": "small", "large": "large"}}


def test_cases_of_one_patient_are_sessions(tmp_path: Path) -> None:
    cells = {name: {"patient": "p1"} for name in ("c0", "c1")}
    write_study(tmp_path / "dataset", splits=("train", "train", "test"), cells=cells)
    export(tmp_path / "dataset", tmp_path / "out", to="bids")
    assert "sub-p1/ses-c1/anat/sub-p1_ses-c1_acq-cine_MR.nii.gz" in files(tmp_path / "out")
    sessions = rows(tmp_path / "out/sub-p1/sub-p1_sessions.tsv")
    assert [(row["session_id"], row["disease"]) for row in sessions] == [
        ("ses-c0", "small"),
        ("ses-c1", "large"),
    ]
    ingest(tmp_path / "out", tmp_path / "back")
    back = open_dataset(tmp_path / "back")
    assert [(case.case_id, case.patient, case.split) for case in back.cases] == [
        ("c0", "p1", "train"),
        ("c1", "p1", "train"),
        ("c2", "c2", "test"),
    ]


def test_names_that_would_fall_together_become_numbers(tmp_path: Path, tiny_dataset: Write) -> None:
    tiny_dataset(tmp_path / "dataset", {"a": {"patient": "p-1"}, "b": {"patient": "p_1"}})
    export(tmp_path / "dataset", tmp_path / "out", to="bids")
    found = rows(tmp_path / "out/participants.tsv")
    assert {row["participant_id"]: row["patient"] for row in found} == {
        "sub-0001": "p-1",
        "sub-0002": "p_1",
        "sub-0003": "pc",
    }


def test_whole_cines_maps_and_frames_come_back(tmp_path: Path) -> None:
    write_study(tmp_path / "dataset", splits=("train", "val", "test"), frames=4)
    export(tmp_path / "dataset", tmp_path / "out", to="bids")
    ingest(tmp_path / "out", tmp_path / "back")
    before, after = open_dataset(tmp_path / "dataset"), open_dataset(tmp_path / "back")
    assert before.columns == after.columns
    assert (before.cycle, before.name) == (after.cycle, after.name)
    for one, other in zip(before.cases, after.cases, strict=True):
        assert (one.case_id, one.frame_ed, one.frame_es, one.split) == (
            other.case_id,
            other.frame_ed,
            other.frame_es,
            other.split,
        )
        for name, path in one.files.items():
            np.testing.assert_array_equal(read_volume(path).array, read_volume(other.files[name]).array)


def test_others_read_the_masks_without_our_key(tmp_path: Path) -> None:
    write_study(tmp_path / "dataset", splits=("train", "val", "test"), frames=1)
    export(tmp_path / "dataset", tmp_path / "out", to="bids")
    path = tmp_path / "out/dataset_description.json"
    path.write_text(json.dumps({key: value for key, value in load(path).items() if key != "medmtl"}))
    assert ingest(tmp_path / "out", tmp_path / "back").refused == []
    back = open_dataset(tmp_path / "back")
    assert back.columns["anatomy"].labels == {"RV": 1, "MYO": 2, "LV": 3}
    assert back.targets["height"].tolist() == [160.0, 161.0, 162.0]
    assert [case.split for case in back.cases] == ["train", "val", "test"]
