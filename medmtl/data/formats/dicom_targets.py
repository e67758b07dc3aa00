"""Targets of DICOM studies: a table with a row per case, study, folder or patient.

Its first column that is called ``case_id``, ``study_uid``, ``folder`` or ``patient_id`` says which study a
row is about. PatientIDs are compared as digests, and no dataset holds them. Other columns are values where
they hold numbers and categories where they hold a few texts; a YAML file beside the table, of the same name,
may say more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medmtl.data.columns import Column
from medmtl.data.dicom.header import patient_key_of_id
from medmtl.data.formats.description import frames_and_split, parse_values
from medmtl.data.formats.dicom_studies import Study
from medmtl.data.formats.infer import split_unit
from medmtl.data.formats.labels import first_doubled
from medmtl.data.formats.table_columns import column_sections, said_by_yaml
from medmtl.data.formats.tables import Table, TableRow, is_blank, read_table
from medmtl.data.problems import Problems
from medmtl.data.schema import parse_schema
from medmtl.types import DatasetError, Finding

KEYS: Mapping[str, str] = {
    "case_id": "case_id",
    "study_uid": "study_uid",
    "StudyInstanceUID": "study_uid",
    "folder": "folder",
    "patient_id": "patient_id",
    "PatientID": "patient_id",
}
_OWN = ("split", "frame_ed", "frame_es")


@dataclass(frozen=True)
class Targets:
    """What a table says about studies.

    Attributes:
        table: the table.
        header: the column that says which study a row is about.
        rows: by what it holds; a PatientID as its digest.
        headers: header of every column of the dataset.
        columns: what they mean.
    """

    table: Table
    header: str
    rows: Mapping[str, TableRow]
    headers: Mapping[str, str]
    columns: Mapping[str, Column]

    @classmethod
    def read(cls, path: Path) -> Targets:
        """Reads the table and the YAML file beside it.

        Raises:
            DatasetError: one of them cannot be used; names row and column.
        """
        table = read_table(path)
        header = next((name for name in table.columns if name in KEYS), None)
        if header is None:
            known = ", ".join(KEYS)
            raise DatasetError(
                f"{path}, row 1: no column says which study a row is about; call one of {known}"
            )
        pairs = [(split_unit(name)[0], name) for name in table.columns if name not in (*KEYS, *_OWN)]
        if (doubled := first_doubled(name for name, _ in pairs)) is not None:
            raise DatasetError(f"{path}, row 1: two columns are called {doubled!r}; rename one")
        twin = path.with_suffix(".yaml")
        said = said_by_yaml(twin, [name for name, _ in pairs], ("columns", "ignore"))
        ignored = said.get("ignore", ())
        headers = {name: column for name, column in pairs if name not in ignored}
        sections = column_sections(table, headers, said.get("columns", {}))
        problems = Problems(path.parent)
        base = {"medmtl_dataset": 1, "name": "targets", "modality": "OT", "channels": ["image"]}
        schema = parse_schema({**base, "columns": sections}, problems, twin.name)
        problems.raise_if_any()
        for name, column in schema.columns.items():
            if column.kind in ("mask", "map"):
                text = f"{name} is a {column.kind}, and masks of DICOM studies come as SEG or RTSTRUCT"
                raise DatasetError(f"{path}: {text}; remove the column")
        return cls(table, header, _by_key(table, header), headers, schema.columns)

    def row_of(self, study: Study, case_id: str) -> TableRow | None:
        """The row about a study."""
        keys = {
            "case_id": case_id,
            "study_uid": study.uid,
            "folder": study.folder,
            "patient_id": study.patient_key,
        }
        wanted = keys[KEYS[self.header]]
        if KEYS[self.header] == "folder" and wanted not in self.rows:
            wanted = wanted.rpartition("/")[2]
        return self.rows.get(wanted) if wanted else None

    def values_of(self, row: TableRow) -> dict[str, float | str]:
        """Categories and values of a row.

        Raises:
            CaseError: ``LABEL_VALUES``: a cell that is no class or number; names row and column.
        """
        cells = {
            name: "" if is_blank(row.cells[header]) else row.cells[header]
            for name, header in self.headers.items()
        }
        return parse_values(TableRow(row.number, cells), self.columns, self.table.path.name)

    def frames_and_split_of(self, row: TableRow) -> tuple[int | None, int | None, str]:
        """ED, ES and split of a row, where it has them.

        Raises:
            CaseError: ``LABEL_VALUES``, naming row and column.
        """
        return frames_and_split(row, self.table.path.name)

    def unused(self, used: set[int]) -> list[Finding]:
        """Rows that are about no study; their cells are not repeated, for they may hold an ID."""
        return [
            Finding(
                "NO_USABLE_SERIES",
                "warning",
                f"row {row.number} is about no study that was found; see to its {self.header}",
                self.table.path.name,
            )
            for row in self.rows.values()
            if row.number not in used
        ]


def _by_key(table: Table, header: str) -> dict[str, TableRow]:
    if KEYS[header] != "patient_id":
        return {key.strip("/"): row for key, row in table.by(header).items()}
    rows: dict[str, TableRow] = {}
    for row in table.rows:
        key = patient_key_of_id(row.cells[header])
        if key is None or key in rows:
            what = f"is that of row {rows[key].number} already" if key is not None else "is blank"
            raise table.error(row.number, header, f"{what}; give every patient one row")
        rows[key] = row
    return rows
