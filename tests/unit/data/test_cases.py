"""``cases.csv``: every cell that cannot be used is named, and what is written comes back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from medmtl.data import open_dataset
from medmtl.data.cases import read_cases, write_cases
from medmtl.data.problems import Problems
from medmtl.data.schema import read_schema, write_schema
from medmtl.types import DatasetError

Write = Callable[..., Path]


def message_of(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(root)
    return str(caught.value)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"case_id": ""}, "row 3, column 'case_id': is blank; every case needs a name"),
        ({"case_id": "../b"}, "row 3, column 'case_id': found '../b', which cannot name a file"),
        ({"patient": ""}, "row 3, column 'patient': is blank; say whose case it is"),
        ({"image": ""}, "row 3, column 'image': is blank; every case needs its image"),
        ({"split": "vaL"}, "row 3, column 'split': found 'vaL'; it is one of train, val, test or blank"),
        ({"height": "tall"}, "row 3, column 'height': found 'tall', which is not a number"),
        (
            {"height": "170,5"},
            "row 3, column 'height': found '170,5', which is not a number; write a decimal point",
        ),
        ({"height": "nan"}, "row 3, column 'height': found 'nan'; leave the cell blank"),
        ({"disease": "MINX"}, "'MINX', which is not one of the classes; did you mean 'MINF'?"),
        ({"disease": "healthy"}, "not one of the classes; known are DCM, MINF, NOR"),
        (
            {"frame_ed": "0.5"},
            "row 3, column 'frame_ed': found '0.5'; a frame is a whole number, and the first one is 0",
        ),
        ({"frame_ed": "-1"}, "row 3, column 'frame_ed': found '-1'"),
        ({"frame_ed": "1"}, "row 3, column 'frame_es': found 1, the same frame as frame_ed"),
        ({"anatomy": "none.nii.gz"}, "row 3, column 'anatomy'"),
    ],
)
def test_a_cell_that_cannot_be_used_is_named_with_row_and_column(
    tmp_path: Path, tiny_dataset: Write, cells: dict[str, str], expected: str
) -> None:
    message = message_of(tiny_dataset(tmp_path, {"b": cells}))
    assert message.startswith(f"{tmp_path}: cases.csv, ")
    assert expected in message


def test_a_case_in_two_splits_has_a_sentence_of_its_own(tmp_path: Path, tiny_dataset: Write) -> None:
    message = message_of(tiny_dataset(tmp_path, {"c": {"case_id": "a"}}))
    assert (
        "row 4, column 'case_id': the case 'a' is in two splits, 'train' in row 2 and 'test' here" in message
    )


def test_a_case_that_stands_twice_in_one_split_is_refused(tmp_path: Path, tiny_dataset: Write) -> None:
    message = message_of(tiny_dataset(tmp_path, {"c": {"case_id": "a", "split": "train"}}))
    assert "row 4, column 'case_id': 'a' stands in row 2 already" in message


def test_a_patient_in_two_splits_is_refused(tmp_path: Path, tiny_dataset: Write) -> None:
    message = message_of(tiny_dataset(tmp_path, {"c": {"patient": "pa"}}))
    assert (
        "row 4, column 'split': the patient 'pa' is in two splits, 'train' in row 2 and 'test' here"
        in message
    )
    assert "what is tested was trained on" in message


def test_a_patient_twice_in_one_split_is_fine(tmp_path: Path, tiny_dataset: Write) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path, {"c": {"patient": "pa", "split": "train"}}))
    assert [case.patient for case in dataset.select("train")] == ["pa", "pa"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "patient,",
            "patent,",
            ["column 'patent': unknown column; did you mean 'patient'?", "'patient': this column is"],
        ),
        (
            "image,",
            "picture,",
            ["column 'image': this column is missing", "column 'picture': unknown column"],
        ),
        ("height", "height,disease", ["column 'disease': stands there 2 times"]),
        ("height", "height,", ["column '': a column without a name"]),
    ],
)
def test_a_header_with_a_wrong_name_is_refused(
    tmp_path: Path, tiny_dataset: Write, old: str, new: str, expected: list[str]
) -> None:
    path = tiny_dataset(tmp_path) / "cases.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    for text in expected:
        assert text in message_of(tmp_path)
    assert "cases.csv, row 1" in message_of(tmp_path)


def test_a_table_with_semicolons_says_so(tmp_path: Path, tiny_dataset: Write) -> None:
    path = tiny_dataset(tmp_path) / "cases.csv"
    path.write_text(path.read_text().replace(",", ";"))
    assert "separated by semicolons; save it with commas" in message_of(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cases.csv: there is no such file"),
        (b"", "cases.csv: is empty"),
        (b"case_id\xff", "cases.csv: is not UTF-8 text"),
        (b"case_id,patient,split,image\n", "cases.csv: has no rows"),
        (b'case_id,patient,split,image\na,"b', "cases.csv: cannot be read as CSV"),
        (b"case_id,patient,split,image\na,b,train,c,d\n", "row 2: found 5 cells under 4 column names"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(
    tmp_path: Path, tiny_dataset: Write, content: bytes | None, expected: str
) -> None:
    path = tiny_dataset(tmp_path) / "cases.csv"
    path.unlink() if content is None else path.write_bytes(content)
    assert expected in message_of(tmp_path)


def test_what_spreadsheets_add_does_no_harm(tmp_path: Path, tiny_dataset: Write) -> None:
    path = tiny_dataset(tmp_path, {"a": {"frame_es": "1.0"}}) / "cases.csv"
    lines = path.read_text().splitlines()
    spaced = ["\ufeff" + lines[0], ",,,,", *(line.replace(",", " , ") for line in lines[1:]), "", ""]
    path.write_bytes("\r\n".join(spaced).encode())
    assert [(case.case_id, case.frame_es) for case in open_dataset(tmp_path).cases] == [
        ("a", 1),
        ("b", 1),
        ("c", 1),
    ]


def test_blank_rows_count_in_row_numbers(tmp_path: Path, tiny_dataset: Write) -> None:
    path = tiny_dataset(tmp_path, {"b": {"height": "tall"}}) / "cases.csv"
    path.write_text(path.read_text().replace("\na,", "\n\n\na,", 1))
    assert "row 5, column 'height'" in message_of(tmp_path)


def test_what_is_written_reads_back_equal(tmp_path: Path, tiny_dataset: Write) -> None:
    dataset = open_dataset(tiny_dataset(tmp_path))
    cases = [
        *dataset.cases[:2],
        dataclasses.replace(dataset.cases[2], frame_ed=None, values={"height": 1 / 3}, files={}),
    ]
    schema = dataclasses.replace(dataset.schema, citation='Somebody 2020: a "study"', licence="CC0")
    write_schema(tmp_path, schema)
    write_cases(tmp_path, schema, cases)
    problems = Problems(tmp_path)
    assert read_schema(tmp_path) == schema
    assert [row.case for row in read_cases(tmp_path, schema, problems)] == cases
    assert [row.number for row in read_cases(tmp_path, schema, problems)] == [2, 3, 4]
    assert len(problems) == 0
    assert str(tmp_path) not in (tmp_path / "cases.csv").read_text()
