"""What a column is, told from its name and its cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from medmtl.data.formats.infer import Unusable, infer, is_personal, split_unit
from medmtl.data.formats.tables import Table, TableRow


def table(*cells: str, header: str = "x") -> Table:
    rows = tuple(TableRow(number, {header: cell}) for number, cell in enumerate(cells, start=2))
    return Table(Path("cases.csv"), (header,), rows)


PERSONAL = (
    "name patient_name PatientName LastName surname birth_date BirthDate DOB MRN PatientID patient_id "
    "accession_number email_address"
)


@pytest.mark.parametrize("name", [*PERSONAL.split(), "date of birth", "hospital number"])
def test_names_of_personal_data_are_known(name: str) -> None:
    assert is_personal(name)


@pytest.mark.parametrize(
    "name", ["VendorName", "file_name", "age", "patient", "subject", "birth_weight", "stage", "id", "case_id"]
)
def test_other_names_are_not(name: str) -> None:
    assert not is_personal(name)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("", "n/a", "NaN"), Unusable("is blank in every row")),
        (("1", "2", "x", "3"), Unusable("holds numbers, but 'x' here; correct it or leave it blank", 4)),
        (("1", "inf", "3"), Unusable("holds numbers, but 'inf' here; correct it or leave it blank", 3)),
    ],
)
def test_what_is_neither_numbers_nor_classes_says_why(cells: tuple[str, ...], expected: Unusable) -> None:
    assert infer(table(*cells), "x") == expected


def test_numbers_are_a_value_and_few_texts_are_classes() -> None:
    value = infer(table("1", "", "2.5e3", header="mass [g]"), "mass [g]")
    assert (value.name, value.kind, value.unit) == ("mass", "value", "g")  # type: ignore[union-attr]
    category = infer(table("b", "a", "NA", "b"), "x")
    assert (category.kind, category.classes) == ("category", ("a", "b"))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("age", ("age", "")),
        ("age [years]", ("age", "years")),
        ("EF(%)", ("EF", "%")),
        ("a (b) c", ("a (b) c", "")),
    ],
)
def test_a_unit_stands_in_brackets_at_the_end(header: str, expected: tuple[str, str]) -> None:
    assert split_unit(header) == expected
