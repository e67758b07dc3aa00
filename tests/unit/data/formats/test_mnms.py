"""M&Ms: bad tables and masks are named; what is not drawn is not labelled; labels go by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmtl.data import ingest, open_dataset
from medmtl.data.formats import LoadedCase, MnMs
from medmtl.data.nifti import frames_first
from medmtl.types import CaseError, DatasetError
from tests.helpers.layouts import (
    MNMS_TABLE,
    OBLIQUE,
    SHAPE,
    blobs,
    mnms_mask,
    mnms_row,
    noise,
    save,
    write_mnms,
    write_table,
)

CODE = "A0S9V9"
MASK = f"Training/Labeled/{CODE}/{CODE}_sa_gt.nii.gz"
IMAGE = f"Training/Labeled/{CODE}/{CODE}_sa.nii.gz"
Write = Callable[..., Path]


def one(root: Path, **cells: Any) -> Path:
    """One patient, with some cells of its row changed."""
    write_mnms(root, [CODE])
    write_table(root / MNMS_TABLE, [mnms_row(CODE, **cells)])
    return root


def load(root: Path, number: int = 0) -> LoadedCase:
    return list(MnMs().read(root))[number].load()


def refusal(root: Path) -> tuple[str, str]:
    with pytest.raises(CaseError) as caught:
        load(root)
    assert str(root) not in str(caught.value)
    return caught.value.code, str(caught.value)


# ---- the table


@pytest.mark.parametrize(
    ("cells", "code", "expected"),
    [
        ({"ED": "x"}, "UNDECODABLE", "the table, row 2, column 'ED': found 'x', which is not a number"),
        ({"ES": 1}, "TIME_AMBIGUOUS", "the table, row 2: ED and ES are both frame 1; correct it"),
        ({"ES": 5}, "TIME_AMBIGUOUS", "names frame 5 for ES, and the cine has 5 frames, counted from 0"),
        ({"Pathology": "HCMM"}, "LABEL_VALUES", "column 'Pathology': found 'HCMM', which is not one of"),
        ({"VendorName": "Acme"}, "LABEL_VALUES", "column 'VendorName': found 'Acme'"),
        ({"Centre": 9}, "LABEL_VALUES", "column 'Centre': found '9'"),
        ({"Height": 12}, "LABEL_VALUES", "found 12, which is the height of nobody in m or cm"),
        ({"Weight": "70,5"}, "LABEL_VALUES", "found '70,5', which is not a number; write a decimal point"),
    ],
)
def test_a_cell_that_cannot_be_used_refuses_its_case(
    tmp_path: Path, cells: dict[str, Any], code: str, expected: str
) -> None:
    found = refusal(one(tmp_path, **cells))
    assert found[0] == code
    assert expected in found[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"External code,ED,ES\n{CODE},1,3\n{CODE},1,3\n",
            "row 3, column 'External code': 'A0S9V9' stands in row 2",
        ),
        (f"External code,ED,ES\n{CODE},1,3,4\n", "row 2: found 4 cells under 3 column names"),
        ('External code,ED,ES\n"A0S9V9,1,3\n', "cannot be read as a table"),
        ("External code,ED,ES,ED\n", "row 1: the column 'ED' stands there twice"),
    ],
)
def test_a_table_that_cannot_be_read_ends_the_run(tmp_path: Path, text: str, expected: str) -> None:
    one(tmp_path)
    (tmp_path / MNMS_TABLE).write_text(text)
    with pytest.raises(DatasetError) as caught:
        list(MnMs().read(tmp_path))
    assert expected in str(caught.value)


def test_two_tables_or_a_spreadsheet_instead_of_one_are_named(tmp_path: Path) -> None:
    one(tmp_path)
    write_table(tmp_path / "older.csv", [mnms_row(CODE)])
    with pytest.raises(DatasetError, match=r"and older.csv are both tables of patients; keep one"):
        list(MnMs().read(tmp_path))
    (tmp_path / "older.csv").unlink()
    (tmp_path / MNMS_TABLE).rename(tmp_path / "M&Ms Dataset Information.xlsx")
    with pytest.raises(DatasetError, match=r"is a spreadsheet; save it as CSV beside it"):
        list(MnMs().read(tmp_path))


def test_a_patient_without_a_row_is_kept_with_a_warning(tmp_path: Path) -> None:
    write_mnms(tmp_path, [CODE])
    write_table(tmp_path / MNMS_TABLE, [mnms_row("Z9Z9Z9")])
    case = load(tmp_path)
    assert (case.frame_ed, case.frame_es, case.values) == (None, None, {})
    [finding] = case.findings
    assert (finding.code, finding.severity) == ("TIME_AMBIGUOUS", "warning")
    assert "A0S9V9 has no row in the table" in finding.message


def test_a_row_becomes_classes_and_values(tmp_path: Path) -> None:
    expected = {"disease": "HCM", "vendor": "Philips", "centre": "2", "sex": "F"}
    assert load(one(tmp_path)).values == expected | {"age": 61.0, "height": 168.0, "weight": 70.5}


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        ({"VendorName": "SIEMENS", "Centre": "1.0"}, {"vendor": "Siemens", "centre": "1"}),
        ({"Height": 171, "Sex": "m"}, {"height": 171.0, "sex": "M"}),
        ({"Pathology": "", "Age": "N/A"}, {}),
    ],
)
def test_spellings_of_spreadsheets_are_understood(
    tmp_path: Path, cells: dict[str, Any], values: dict[str, Any]
) -> None:
    found = load(one(tmp_path, **cells)).values
    assert found == found | values
    assert not {"disease", "age"} & set(found) or "Pathology" not in cells


def test_the_table_is_found_from_inside_the_folders_of_the_data_set(tmp_path: Path) -> None:
    one(tmp_path)
    assert load(tmp_path / "Training" / "Labeled").values["disease"] == "HCM"


# ---- masks


def test_masks_are_renumbered_by_name(tmp_path: Path) -> None:
    frames = frames_first(load(one(tmp_path)).labels["anatomy"].array)
    counts = [[int((frame == code).sum()) for code in (1, 2, 3)] for frame in frames]
    assert counts[1] == [9, 12, 40]  # RV, MYO, LV
    assert counts[3] == [6, 12, 16]
    assert MnMs().schema(tmp_path).columns["anatomy"].labels == {"RV": 1, "MYO": 2, "LV": 3}


def test_frames_that_nobody_drew_are_not_labelled(tmp_path: Path) -> None:
    frames = frames_first(load(one(tmp_path)).labels["anatomy"].array)
    assert [bool((frame == 255).all()) for frame in frames] == [True, False, True, False, True]


def test_the_empty_mask_of_an_unlabelled_case_is_no_label(tmp_path: Path) -> None:
    write_mnms(tmp_path, [CODE], "Training/Unlabeled")
    save(tmp_path / f"Training/Unlabeled/{CODE}/{CODE}_sa_gt.nii.gz", mnms_mask({}))
    case = load(tmp_path)
    assert (case.labels, case.findings) == ({}, ())
    assert (case.frame_ed, case.frame_es) == (1, 3)


def test_an_empty_ed_mask_is_a_warning_and_not_background(tmp_path: Path) -> None:
    one(tmp_path)
    save(tmp_path / MASK, mnms_mask({3: (16, 12, 6)}))
    case = load(tmp_path)
    [finding] = case.findings
    assert "nothing is drawn in the mask of ED (frame 1); taken as not labelled" in finding.message
    assert (frames_first(case.labels["anatomy"].array)[1] == 255).all()


def test_labels_in_frames_that_the_table_does_not_name_are_kept_with_a_warning(tmp_path: Path) -> None:
    one(tmp_path)
    save(tmp_path / MASK, mnms_mask({1: (40, 12, 9), 3: (16, 12, 6), 4: (10, 5, 5)}))
    [finding] = load(tmp_path).findings
    assert (finding.code, finding.severity) == ("TIME_AMBIGUOUS", "warning")
    assert "frame(s) 4 are labelled too" in finding.message


@pytest.mark.parametrize(
    ("mask", "code", "expected"),
    [
        (
            mnms_mask({1: (4, 2, 2)}) * 3,
            "LABEL_VALUES",
            "found the value(s) 6, 9; known are 0 = background, 1 = LV",
        ),
        (
            mnms_mask({1: (4, 2, 2)}) * np.float32(0.5),
            "LABEL_VALUES",
            "has values that are not whole numbers",
        ),
        (
            mnms_mask({1: (4, 2, 2)})[..., :4],
            "LABEL_GEOMETRY_MISMATCH",
            "has 4 frames instead of 5 of the image",
        ),
        (mnms_mask({1: (4, 2, 2)})[:, :, :3], "LABEL_GEOMETRY_MISMATCH", "has grid 12 x 10 x 3 instead of"),
    ],
)
def test_a_mask_that_cannot_be_used_is_named(tmp_path: Path, mask: Any, code: str, expected: str) -> None:
    one(tmp_path)
    save(tmp_path / MASK, mask)
    found = refusal(tmp_path)
    assert found[0] == code
    assert expected in found[1]


def test_a_mask_turned_against_its_image_is_refused(tmp_path: Path) -> None:
    one(tmp_path)
    save(tmp_path / MASK, mnms_mask({1: (4, 2, 2)}), OBLIQUE @ np.diag([-1.0, 1, 1, 1]))
    assert refusal(tmp_path)[0] == "LABEL_GEOMETRY_MISMATCH"


def test_a_mask_whose_image_is_missing_is_a_case_that_is_refused(tmp_path: Path) -> None:
    save(tmp_path / f"{CODE}_sa_ED_gt.nii.gz", blobs({1: 3}))
    assert refusal(tmp_path) == (
        "NO_USABLE_SERIES",
        f"{CODE}_sa_ED_gt.nii.gz: the image that it belongs to is missing",
    )


# ---- loose frames


def loose(root: Path, name: str = f"better_{CODE}") -> Path:
    """ED and ES beside each other, with masks and another model's predictions."""
    for number, phase in enumerate(("ED", "ES")):
        save(root / f"{name}_sa_{phase}.nii.gz", noise(number))
        save(root / f"{name}_sa_{phase}_gt.nii.gz", blobs({1: 40 - 20 * number, 2: 12, 3: 9}))
        save(root / f"{name}_sa_{phase}_pred.nii.gz", blobs({1: 1}))
    return root


def test_loose_frames_are_one_case_of_the_patient_in_their_name(tmp_path: Path) -> None:
    [raw] = MnMs().read(loose(tmp_path))
    case = raw.load()
    assert (raw.case_id, case.patient, case.frame_ed, case.frame_es) == (f"better_{CODE}", CODE, 0, 1)
    assert case.images[0].array.shape == (*SHAPE, 2)
    frames = frames_first(case.labels["anatomy"].array)
    assert [int((frame == 3).sum()) for frame in frames] == [40, 20]
    np.testing.assert_allclose(case.images[0].geometry.affine, OBLIQUE, atol=1e-5)


def test_one_loose_frame_alone_is_a_case_of_one_phase(tmp_path: Path) -> None:
    loose(tmp_path)
    for path in tmp_path.glob("*_sa_ED*"):
        path.unlink()
    case = load(tmp_path)
    assert (case.frame_ed, case.frame_es, case.images[0].array.shape) == (None, 0, SHAPE)


def test_loose_frames_on_different_grids_are_refused(tmp_path: Path) -> None:
    save(loose(tmp_path) / f"better_{CODE}_sa_ES.nii.gz", noise(0, (12, 10, 5)))
    assert refusal(tmp_path)[0] == "MIXED_GRID"


def test_two_patients_side_by_side_stay_two_cases(tmp_path: Path) -> None:
    loose(loose(tmp_path), "worse_Z1Y2X3")
    assert [raw.case_id for raw in MnMs().read(tmp_path)] == [f"better_{CODE}", "worse_Z1Y2X3"]
    assert load(tmp_path, 1).patient == "Z1Y2X3"


# ---- splits


def test_testing_and_validation_keep_their_splits(tmp_path: Path) -> None:
    folders = {"A0S9V9": "Training/Labeled", "B1T2W3": "Validation", "C4U5X6": "Testing"}
    for code, folder in folders.items():
        write_mnms(tmp_path, [code], folder)
    assert [raw.load().split for raw in MnMs().read(tmp_path)] == ["train", "val", "test"]


def test_without_validation_ingest_chooses_who_validates(tmp_path: Path) -> None:
    write_mnms(tmp_path, ["A0S9V9"])
    write_mnms(tmp_path, ["C4U5X6"], "Testing")
    assert [raw.load().split for raw in MnMs().read(tmp_path)] == ["", "test"]


def test_directions_that_are_not_at_right_angles_are_kept(tmp_path: Path) -> None:
    sheared = OBLIQUE.copy()
    sheared[:3, 2] += [0.5, 0.0, 0.2]
    for phase in ("ED", "ES"):
        save(tmp_path / f"{CODE}_sa_{phase}.nii.gz", noise(0), sheared)
        save(tmp_path / f"{CODE}_sa_{phase}_gt.nii.gz", blobs({1: 9}), sheared)
    np.testing.assert_allclose(load(tmp_path).images[0].geometry.affine, sheared, atol=1e-5)


def test_an_ingested_case_has_its_volumes_and_its_place(tmp_path: Path) -> None:
    assert ingest(one(tmp_path / "raw"), tmp_path / "out").refused == []
    dataset = open_dataset(tmp_path / "out")
    assert dataset.targets.loc[CODE, "LV_EF"] == pytest.approx(60.0)
    voxel_ml = abs(np.linalg.det(OBLIQUE[:3, :3])) / 1000
    assert dataset.targets.loc[CODE, "RV_EDV"] == pytest.approx(9 * voxel_ml, rel=1e-5)
    np.testing.assert_allclose(dataset.geometry[CODE].affine, OBLIQUE, atol=1e-5)
