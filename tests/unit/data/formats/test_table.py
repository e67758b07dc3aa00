"""Plain tables: columns are told from their cells; what cannot be told is named by row and column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from medmtl.data import ingest, open_dataset
from medmtl.data.dicom import load as load_volume
from medmtl.data.dicom import scan
from medmtl.data.formats import LoadedCase, PlainTable, find_format
from medmtl.types import CaseError, DatasetError
from tests.helpers import dicom_writer
from tests.helpers.layouts import TABLE_ROWS, blobs, noise, save, write_plain, write_table

Write = Callable[..., Path]


def load(root: Path, number: int = 0) -> LoadedCase:
    return list(PlainTable().read(root))[number].load()


def rows(**columns: list[str]) -> list[dict[str, str]]:
    """Three rows of images with further columns."""
    base: list[dict[str, str]] = [{"image": f"{name}.nii.gz"} for name in "abc"]
    for name, cells in columns.items():
        for row, cell in zip(base, cells, strict=True):
            row[name] = cell
    return base


def error(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        PlainTable().schema(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- columns that mean nothing that can be told


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"age": ["61", "old", "70"]}, "row 3, column 'age': holds numbers, but 'old' here; correct it"),
        ({"age": ["61,5", "60", "70"]}, "row 2, column 'age': holds numbers, but '61,5' here"),
        (
            {"mask": ["m.nii.gz", "none", ""]},
            "row 3, column 'mask': found 'none', and other cells name files",
        ),
        ({"note": ["", "", ""]}, "column 'note': is blank in every row; say what it means in cases.yaml"),
        ({"patient_name": ["A", "B", "C"]}, "the column 'patient_name' speaks of personal data"),
        ({"BirthDate": ["1960", "1961", "1962"]}, "the column 'BirthDate' speaks of personal data"),
        ({"image_t2": ["x.nii.gz"] * 3}, "found the columns 'image', 'image_t2'; call all image_<channel>"),
        ({"h [cm]": ["1"] * 3, "h (m)": ["1"] * 3}, "two columns are called 'h'; rename one"),
    ],
)
def test_a_column_that_cannot_be_told_is_named(
    tmp_path: Path, columns: dict[str, list[str]], expected: str
) -> None:
    write_plain(tmp_path, rows(**columns))
    assert expected in error(tmp_path)


def test_many_different_texts_are_no_classes(tmp_path: Path) -> None:
    many = [{"image": f"c{n}.nii.gz", "note": f"text {n}"} for n in range(21)]
    write_plain(tmp_path, many)
    assert "column 'note': holds 21 different texts, too many for classes" in error(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image,image\na,b\n", "row 1: the column 'image' stands there twice"),
        ("image,age\na.nii.gz,1,2\n", "row 2: found 3 cells under 2 column names"),
        ("image,x\na.nii.gz,\udcff\n", "is not UTF-8 text"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "cases.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert expected in error(tmp_path)


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("columns: [", "cases.yaml: cannot be read as YAML (line 1"),
        ("- a", "cases.yaml: found ['a']; it has to be a mapping"),
        ("colums: {}", "cases.yaml: unknown key 'colums'; did you mean 'columns'?"),
        ("columns: 3", "cases.yaml, columns: found 3; it has to be a mapping"),
        ("ignore: stage", "cases.yaml, ignore: found 'stage'; it has to be a list of columns"),
        ("ignore: [stages]", "cases.yaml, ignore: there is no column 'stages'; did you mean 'stage'?"),
        (
            "columns: {stage: {kind: clas}}",
            "cases.yaml: columns.stage.kind: found 'clas', which is not known here",
        ),
        ("columns: {stage: 3}", "cases.yaml: columns.stage: found 3; it has to be a mapping"),
        ("columns: {liver: {labels: {a: 0}}}", "columns.liver.labels.a: found 0; a label is a whole number"),
    ],
)
def test_a_yaml_file_that_cannot_be_used_is_named(
    tmp_path: Path, table: Write, yaml: str, expected: str
) -> None:
    (table(tmp_path) / "cases.yaml").write_text(yaml)
    assert expected in error(tmp_path)


def test_two_tables_with_images_ask_which(tmp_path: Path, table: Write) -> None:
    table(tmp_path)
    write_plain(tmp_path, rows(), "older.csv")
    assert "several tables name images (cases.csv, older.csv); give the path of the one to read" in error(
        tmp_path
    )
    assert [raw.case_id for raw in PlainTable().read(tmp_path / "older.csv")] == ["a", "b", "c"]


# ---- cells that cannot be used


@pytest.mark.parametrize(
    ("cells", "code", "expected"),
    [
        ({"image": ""}, "NO_USABLE_SERIES", "row 2, column 'image': is blank; every case needs its image"),
        (
            {"image": "gone.nii.gz"},
            "NO_USABLE_SERIES",
            "row 2, column 'image': gone.nii.gz: there is no such file",
        ),
        ({"image": "a.png"}, "UNDECODABLE", "row 2, column 'image': a.png: is of no known format"),
        (
            {"split": "tset"},
            "LABEL_VALUES",
            "row 2, column 'split': found 'tset', which is not one of the splits",
        ),
        (
            {"frame_ed": "1.5"},
            "LABEL_VALUES",
            "row 2, column 'frame_ed': found '1.5'; a frame is a whole number",
        ),
    ],
)
def test_a_cell_that_cannot_be_used_refuses_its_case(
    tmp_path: Path, cells: dict[str, str], code: str, expected: str
) -> None:
    write_plain(tmp_path, TABLE_ROWS)
    write_table(tmp_path / "cases.csv", [{**TABLE_ROWS[0], **cells}, *TABLE_ROWS[1:]])
    with pytest.raises(CaseError) as caught:
        load(tmp_path)
    assert caught.value.code == code
    assert expected in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_mask_on_another_grid_names_its_cell(tmp_path: Path, table: Write) -> None:
    save(table(tmp_path) / "seg/a.nii.gz", blobs({1: 3}, (12, 10, 5)))
    with pytest.raises(CaseError, match=r"row 2, column 'liver': has grid 12 x 10 x 5") as caught:
        load(tmp_path)
    assert caught.value.code == "LABEL_GEOMETRY_MISMATCH"


def test_a_class_that_the_yaml_file_does_not_list_refuses_its_case(tmp_path: Path, table: Write) -> None:
    (table(tmp_path) / "cases.yaml").write_text("columns: {stage: {kind: category, classes: [early, mid]}}")
    with pytest.raises(
        CaseError, match=r"cases.csv, row 3, column 'stage': found 'late', which is not one of"
    ):
        load(tmp_path, 1)


def test_a_mask_value_that_the_yaml_file_does_not_name_refuses_its_case(tmp_path: Path, table: Write) -> None:
    (table(tmp_path) / "cases.yaml").write_text("columns: {liver: {labels: {liver: 1}}}")
    with pytest.raises(CaseError, match=r"row 2, column 'liver': found the value\(s\) 2; known are 0"):
        load(tmp_path)


# ---- what good tables become


def test_columns_are_told_from_their_cells(tmp_path: Path, table: Write) -> None:
    schema = PlainTable().schema(table(tmp_path))
    kinds = {name: (column.kind, column.unit) for name, column in schema.columns.items()}
    assert kinds == {
        "liver": ("mask", ""),
        "stage": ("category", ""),
        "height": ("value", "cm"),
        "notes": ("category", ""),
    }
    assert schema.columns["liver"].labels == {"label_1": 1, "label_2": 2}
    assert schema.columns["stage"].classes == ("early", "late")
    case = load(tmp_path)
    assert (case.patient, case.split) == ("p1", "train")
    assert case.values == {"stage": "early", "height": 170.0, "notes": "x1"}
    assert load(tmp_path, 1).values == {"stage": "late"}
    assert load(tmp_path, 1).labels == {}


def test_the_yaml_file_names_what_the_cells_cannot(tmp_path: Path, table: Write) -> None:
    said = """\
name: livers
modality: CT
ignore: [notes]
columns:
  liver: {labels: {liver: 1, tumour: 2}}
  height: {unit: m}
  burden: {kind: value, derived: {quantity: volume, mask: liver, structure: tumour}}
"""
    (table(tmp_path / "raw") / "cases.yaml").write_text(said)
    ingest(tmp_path / "raw", tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert (dataset.name, dataset.modality, list(dataset.columns)) == (
        "livers",
        "CT",
        ["liver", "stage", "height", "burden"],
    )
    assert dataset.columns["height"].unit == "m"
    assert dataset.targets.loc["a", "burden"] > 0


def test_files_of_other_values_than_whole_numbers_are_maps(tmp_path: Path) -> None:
    write_plain(tmp_path, rows(t1=["t/a.nii.gz", "t/b.nii.gz", ""]))
    save(tmp_path / "t/b.nii.gz", np.full((12, 10, 4), 1200.5, np.float32))
    assert PlainTable().schema(tmp_path).columns["t1"].kind == "map"
    assert float(load(tmp_path, 1).labels["t1"].array.max()) == 1200.5


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_every_separator_are_read(tmp_path: Path, delimiter: str) -> None:
    name = "cases.tsv" if delimiter == "\t" else "cases.csv"
    write_plain(tmp_path, TABLE_ROWS, name, delimiter)
    assert isinstance(find_format(tmp_path), PlainTable)
    assert [raw.where for raw in PlainTable().read(tmp_path)] == [f"{name}, row {n}" for n in (2, 3, 4)]


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii"])
def test_images_of_every_format_are_read(tmp_path: Path, ending: str) -> None:
    write_plain(tmp_path, rows())
    for path in list(tmp_path.glob("*.nii.gz")):
        sitk.WriteImage(sitk.ReadImage(path), str(path).replace(".nii.gz", ending))
        path.unlink()
    text = (tmp_path / "cases.csv").read_text().replace(".nii.gz", ending)
    (tmp_path / "cases.csv").write_text(text)
    np.testing.assert_array_equal(load(tmp_path).images[0].array, noise(0))


def test_several_channels_have_a_column_each(tmp_path: Path) -> None:
    two = [{"image_t1": f"{n}_t1.nii.gz", "image_flair": f"{n}_fl.nii.gz", "case_id": n} for n in "ab"]
    write_plain(tmp_path, two)
    assert PlainTable().schema(tmp_path).channels == ("t1", "flair")
    assert PlainTable().schema(tmp_path).modality == "MR"
    assert len(load(tmp_path).images) == 2


@pytest.mark.parametrize(
    ("images", "expected"),
    [(["a.nii.gz", "b.nii.gz"], ["a", "b"]), (["p2/t2.nii.gz", "p1/t2.nii.gz"], ["p1_t2", "p2_t2"])],
)
def test_cases_without_names_are_called_by_their_images(
    tmp_path: Path, images: list[str], expected: list[str]
) -> None:
    write_plain(tmp_path, [{"image": image} for image in images])
    assert [raw.case_id for raw in PlainTable().read(tmp_path)] == expected


def test_a_table_can_be_ingested_by_its_path(tmp_path: Path, table: Write) -> None:
    result: Any = ingest(table(tmp_path / "raw") / "cases.csv", tmp_path / "out")
    assert (result.cases, result.refused) == (3, [])
    assert result.recognized == "table, because of the images that cases.csv names"
    assert [case.split for case in open_dataset(tmp_path / "out").cases] == ["train", "val", "test"]


# ---- cells that name DICOM


def test_a_folder_of_dicom_with_one_volume_is_an_image(tmp_path: Path) -> None:
    dicom_writer.write(dicom_writer.mr_volume(), tmp_path / "s1")
    write_table(tmp_path / "cases.csv", [{"case_id": "a", "image": "s1", "group": "x"}])
    assert isinstance(find_format(tmp_path), PlainTable)
    [plan] = [plan for series in scan([tmp_path / "s1"]).series for plan in series.volumes]
    case = load(tmp_path)
    np.testing.assert_array_equal(case.images[0].array, load_volume(plan).array)
    np.testing.assert_allclose(case.images[0].geometry.affine, plan.affine)


def test_a_folder_with_several_volumes_or_none_is_refused_by_its_cell(tmp_path: Path) -> None:
    dicom_writer.write(dicom_writer.mr_volume(), tmp_path / "two" / "a")
    dicom_writer.write(dicom_writer.pet(), tmp_path / "two" / "b")
    (tmp_path / "empty").mkdir()
    write_table(tmp_path / "cases.csv", [{"case_id": n, "image": n} for n in ("empty", "two")])
    for number, expected in enumerate(("row 2, column 'image': empty: holds no", "two: holds 2 volumes (")):
        with pytest.raises(CaseError) as caught:
            load(tmp_path, number)
        assert caught.value.code == "NO_USABLE_SERIES"
        assert expected in str(caught.value)
