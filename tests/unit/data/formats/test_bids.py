"""BIDS: which images are meant, which masks are theirs, what the tables say; what cannot be told is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmtl.data import ingest, open_dataset
from medmtl.data.formats import Bids, LoadedCase
from medmtl.data.formats.bids_files import parse
from medmtl.types import CaseError, DatasetError
from tests.helpers.layouts import BIDS_ROWS, SHAPE, blobs, noise, save, write_json, write_table

Write = Callable[..., Path]
SEG = "derivatives/seg"


def load(root: Path, number: int = 0) -> LoadedCase:
    return list(Bids().read(root))[number].load()


def refusal(root: Path) -> tuple[str, str]:
    with pytest.raises(CaseError) as caught:
        load(root)
    assert str(root) not in str(caught.value)
    return caught.value.code, str(caught.value)


def error(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        Bids().schema(root)
    return str(caught.value)


# ---- what cannot be used


def test_a_broken_description_is_named_with_its_line(tmp_path: Path, bids: Write) -> None:
    (bids(tmp_path) / "dataset_description.json").write_text('{"Name":\n}')
    assert Bids().recognizes(tmp_path)
    assert "dataset_description.json: is not JSON, line 2" in error(tmp_path)


def test_subjects_without_an_image_are_named(tmp_path: Path) -> None:
    write_json(tmp_path / "dataset_description.json", {"Name": "x"})
    (tmp_path / "sub-01" / "anat").mkdir(parents=True)
    assert "holds no image such as sub-01/anat/sub-01_T1w.nii.gz" in error(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("subject\tage\nsub-01\t3\n", "participants.tsv, row 1: the column 'participant_id' is missing"),
        (
            "participant_id\nsub-01\nsub-01\n",
            "participants.tsv, row 3, column 'participant_id': 'sub-01' stands in row 2",
        ),
        (
            "participant_id\tage\nsub-01\t3\t4\n",
            "participants.tsv, row 2: found 3 cells under 2 column names",
        ),
    ],
)
def test_a_participants_table_that_cannot_be_read_is_named(
    tmp_path: Path, bids: Write, text: str, expected: str
) -> None:
    (bids(tmp_path) / "participants.tsv").write_text(text)
    assert expected in error(tmp_path)


def test_a_cell_outside_of_its_levels_refuses_its_case(tmp_path: Path, bids: Write) -> None:
    write_table(bids(tmp_path) / "participants.tsv", [{**BIDS_ROWS[0], "sex": "X"}, *BIDS_ROWS[1:]], "\t")
    assert refusal(tmp_path) == (
        "LABEL_VALUES",
        "participants.tsv, row 2, column 'sex': found 'X', which is not one of the classes; known are F, M",
    )


def test_a_number_that_is_none_in_most_cells_that_are_leaves_the_column_out(
    tmp_path: Path, bids: Write
) -> None:
    rows = [{"participant_id": f"sub-0{n}", "age": age} for n, age in ((1, "3"), (2, "4"), (3, "old"))]
    write_table(bids(tmp_path) / "participants.tsv", rows, "\t")
    assert "age" not in Bids().schema(tmp_path).columns
    [finding] = load(tmp_path).findings
    assert (
        finding.message
        == "the column 'age' is not read: it holds numbers, but 'old' here; correct it or leave it blank"
    )


def test_personal_columns_are_left_out(tmp_path: Path, bids: Write) -> None:
    rows = [{**row, "birth_date": "1970"} for row in BIDS_ROWS]
    write_table(bids(tmp_path) / "participants.tsv", rows, "\t")
    assert "birth_date" not in Bids().schema(tmp_path).columns


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [{"index": "x", "name": "GM"}],
            "desc-tissue_dseg.tsv, row 2, column 'index': found 'x', 'GM'; a number",
        ),
        ([{"index": 1}], "row 1: the column 'name' is missing"),
        ([{"index": 1, "name": "a"}, {"index": 2, "name": "a"}], "'a' names two values"),
    ],
)
def test_names_of_structures_that_cannot_be_used_are_named(
    tmp_path: Path, bids: Write, rows: list[dict[str, Any]], expected: str
) -> None:
    write_table(bids(tmp_path) / SEG / "desc-tissue_dseg.tsv", rows, "\t")
    assert expected in error(tmp_path)


def test_tables_that_contradict_each_other_are_named(tmp_path: Path, bids: Write) -> None:
    table = bids(tmp_path) / SEG / "sub-02/anat/sub-02_desc-tissue_dseg.tsv"
    write_table(table, [{"index": 3, "name": "WM"}], "\t")
    assert "sub-02_desc-tissue_dseg.tsv" in error(tmp_path)
    assert "make them agree" in error(tmp_path)


@pytest.mark.parametrize(
    ("mask", "code", "expected"),
    [
        (
            blobs({3: 4, 7: 1}),
            "LABEL_VALUES",
            "sub-01_desc-tissue_dseg.nii.gz: found the value(s) 7; known are 0",
        ),
        (blobs({3: 4}, (12, 10, 5)), "LABEL_GEOMETRY_MISMATCH", "sub-01_desc-tissue_dseg.nii.gz: has grid"),
    ],
)
def test_a_mask_that_cannot_be_used_refuses_its_case(
    tmp_path: Path, bids: Write, mask: Any, code: str, expected: str
) -> None:
    save(bids(tmp_path) / SEG / "sub-01/anat/sub-01_desc-tissue_dseg.nii.gz", mask)
    found = refusal(tmp_path)
    assert found[0] == code
    assert expected in found[1]


def test_images_of_several_grids_and_no_mask_ask_which_are_meant(tmp_path: Path) -> None:
    write_json(tmp_path / "dataset_description.json", {"Name": "x"})
    save(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz", noise(0))
    save(tmp_path / "sub-01/func/sub-01_task-rest_bold.nii.gz", noise(0, (6, 6, 3, 2)))
    message = error(tmp_path)
    assert "several kinds that do not lie on one grid: T1w (1), task-rest_bold (1)" in message
    assert 'as in "medmtl": {"channels": {"T1w": "T1w"}}' in message
    block = {"channels": {"bold": "task-rest_bold"}}
    write_json(tmp_path / "dataset_description.json", {"Name": "x", "medmtl": block})
    assert Bids().schema(tmp_path).channels == ("bold",)
    assert load(tmp_path).images[0].array.shape == (6, 6, 3, 2)


def test_a_subject_without_one_of_the_channels_is_refused(tmp_path: Path, bids: Write) -> None:
    block = {"channels": {"t1": "T1w", "flair": "FLAIR"}}
    write_json(bids(tmp_path) / "dataset_description.json", {"Name": "x", "medmtl": block})
    (tmp_path / "sub-01/anat/sub-01_FLAIR.nii.gz").unlink()
    assert refusal(tmp_path) == ("NO_USABLE_SERIES", "sub-01: the image sub-01_FLAIR is missing")


# ---- what is understood


def test_images_on_one_grid_are_channels_and_masks_are_columns(tmp_path: Path, bids: Write) -> None:
    schema = Bids().schema(bids(tmp_path))
    assert (schema.name, schema.modality, schema.channels, schema.licence) == (
        "brains",
        "MR",
        ("FLAIR", "T1w"),
        "CC0",
    )
    assert {name: column.kind for name, column in schema.columns.items()} == {
        "tissue": "mask",
        "lesion": "mask",
        "age": "value",
        "sex": "category",
        "group": "category",
    }
    assert schema.columns["tissue"].labels == {"GM": 3, "WM": 41}
    assert schema.columns["lesion"].labels == {"lesion": 1}
    assert (schema.columns["age"].unit, schema.columns["sex"].classes) == ("years", ("F", "M"))
    case = load(tmp_path)
    assert (case.patient, case.values) == ("sub-01", {"age": 34.0, "sex": "F", "group": "control"})
    assert [int((case.labels["tissue"].array == value).sum()) for value in (3, 41)] == [25, 11]
    np.testing.assert_array_equal(case.images[1].array, noise(0))
    assert "age" not in load(tmp_path, 1).values


def test_masks_of_other_spaces_and_probabilities_are_not_read(tmp_path: Path, bids: Write) -> None:
    folder = bids(tmp_path) / SEG / "sub-01/anat"
    save(folder / "sub-01_space-MNI152_desc-tissue_dseg.nii.gz", blobs({3: 1}, (20, 20, 20)))
    save(folder / "sub-01_label-GM_probseg.nii.gz", noise(0) / 400)
    assert set(load(tmp_path).labels) == {"tissue", "lesion"}


def test_the_masks_say_which_of_several_grids_is_meant(tmp_path: Path, bids: Write) -> None:
    bids(tmp_path)
    for sub in ("01", "02", "03"):
        save(tmp_path / f"sub-{sub}/func/sub-{sub}_task-rest_bold.nii.gz", noise(0, (6, 6, 3, 2)))
    assert Bids().schema(tmp_path).channels == ("FLAIR", "T1w")
    [finding] = load(tmp_path).findings
    assert "images of the kind task-rest_bold are not read" in finding.message
    assert finding.severity == "info"


def test_a_3d_mask_of_a_4d_image_holds_for_every_frame(tmp_path: Path) -> None:
    write_json(tmp_path / "dataset_description.json", {"Name": "x"})
    save(tmp_path / "sub-01/func/sub-01_task-rest_bold.nii.gz", noise(0, (*SHAPE, 3)))
    mask = blobs({1: 9})
    save(tmp_path / "derivatives/prep/sub-01/func/sub-01_task-rest_desc-brain_mask.nii.gz", mask)
    label = load(tmp_path).labels["brain"].array
    assert [np.array_equal(label[..., frame], mask) for frame in range(3)] == [True] * 3


def test_the_same_mask_of_two_pipelines_gives_two_columns(tmp_path: Path, bids: Write) -> None:
    save(bids(tmp_path) / "derivatives/other/sub-01/anat/sub-01_label-lesion_mask.nii.gz", blobs({1: 2}))
    columns = Bids().schema(tmp_path).columns
    assert {"seg_label-lesion_mask", "other_label-lesion_mask"} <= set(columns)
    assert int(load(tmp_path).labels["other_label-lesion_mask"].array.sum()) == 2


def test_structures_without_a_table_are_called_by_number(tmp_path: Path, bids: Write) -> None:
    (bids(tmp_path) / SEG / "desc-tissue_dseg.tsv").unlink()
    assert Bids().schema(tmp_path).columns["tissue"].labels == {"label_3": 3, "label_41": 41}


def test_sessions_and_runs_are_cases_of_one_patient(tmp_path: Path) -> None:
    write_json(tmp_path / "dataset_description.json", {"Name": "x"})
    for name in ("sub-01_ses-a", "sub-01_ses-b_run-1", "sub-01_ses-b_run-2"):
        ses = name.split("_")[1]
        save(tmp_path / f"sub-01/{ses}/anat/{name}_T1w.nii.gz", noise(0))
    write_table(tmp_path / "participants.tsv", [{"participant_id": "sub-01", "sex": "F"}], "\t")
    rows = [{"session_id": "ses-a", "age": "30"}, {"session_id": "ses-b", "age": "31"}]
    write_table(tmp_path / "sub-01/sub-01_sessions.tsv", rows, "\t")
    cases = {raw.case_id: raw.load() for raw in Bids().read(tmp_path)}
    assert {name: (case.patient, case.values["age"], case.values["sex"]) for name, case in cases.items()} == {
        "sub-01_ses-a": ("sub-01", 30.0, "F"),
        "sub-01_ses-b_run-1": ("sub-01", 31.0, "F"),
        "sub-01_ses-b_run-2": ("sub-01", 31.0, "F"),
    }


def test_a_pet_data_set_is_one(tmp_path: Path) -> None:
    write_json(tmp_path / "dataset_description.json", {"Name": "x"})
    save(tmp_path / "sub-01/pet/sub-01_trc-FDG_pet.nii.gz", noise(0))
    schema = Bids().schema(tmp_path)
    assert (schema.modality, schema.channels) == ("PT", ("trc-FDG_pet",))


def test_an_ingested_data_set_has_its_masks_and_covariates(tmp_path: Path, bids: Write) -> None:
    assert ingest(bids(tmp_path / "raw"), tmp_path / "out").refused == []
    dataset = open_dataset(tmp_path / "out")
    assert dataset.targets["group"].tolist() == ["control", "patient", "patient"]
    assert [len(case.files) for case in dataset.cases] == [2, 2, 2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-01_T1w.nii.gz", ({"sub": "01"}, "T1w")),
        (
            "sub-01_ses-2_task-rest_run-1_bold.nii",
            ({"sub": "01", "ses": "2", "task": "rest", "run": "1"}, "bold"),
        ),
        ("T1w.nii.gz", None),
        ("sub-01_sub-02_T1w.nii.gz", None),
        ("sub-01_what_T1w.nii.gz", None),
        ("._sub-01_T1w.nii.gz", None),
    ],
)
def test_names_are_taken_apart_or_not_at_all(name: str, expected: tuple[dict[str, str], str] | None) -> None:
    file = parse(Path("sub-01/anat") / name)
    assert (None if file is None else (dict(file.entities), file.suffix)) == expected
