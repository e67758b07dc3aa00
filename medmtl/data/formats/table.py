"""Plain folders: a CSV with one row per case, which names images, masks and maps, and holds their targets."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import ClassVar

from medmtl.data.columns import Schema
from medmtl.data.formats.base import FORMATS, DatasetFormat, LoadedCase, RawCase
from medmtl.data.formats.description import frames_and_split, parse_values, safe_name
from medmtl.data.formats.dicom_cell import names_dicom, read_dicom
from medmtl.data.formats.labels import LabelMap
from medmtl.data.formats.scanned import told_of
from medmtl.data.formats.table_columns import Description, tables_with_images
from medmtl.data.formats.tables import TableRow, is_blank
from medmtl.data.formats.volumes import read_any, same_grid, stem
from medmtl.data.nifti import Volume
from medmtl.data.schema import FILE as DATASET_FILE
from medmtl.types import UNLABELLED, CaseError, Finding


@FORMATS.register("table")
class PlainTable(DatasetFormat):
    """A CSV (or TSV) whose columns ``image``, or ``image_<channel>``, name files or folders of DICOM.

    Every column of cells that name files is a mask (whole numbers) or a map (others), every column of numbers
    a value, every column of a few texts a category.
    """

    looks_for: ClassVar[str] = "one CSV with a column 'image' or columns 'image_<channel>' that name files"
    rank: ClassVar[int] = 1

    def recognizes(self, path: Path) -> str | None:
        """The first table with a column of images, in a folder that is no dataset of medmtl's already."""
        if path.is_dir() and (path / DATASET_FILE).is_file():
            return None
        tables = tables_with_images(path)
        return f"the images that {tables[0].name} names" if tables else None

    def schema(self, path: Path) -> Schema:
        """What the cells of the table, or the YAML file beside it, say."""
        return Description.read(path).schema

    def read(self, path: Path) -> Iterable[RawCase]:
        """One case per row, by name."""
        description = Description.read(path)
        named = sorted(
            zip(_case_ids(description), description.table.rows, strict=True), key=lambda pair: pair[0]
        )
        for case_id, row in named:
            where = f"{description.table.path.name}, row {row.number}"
            yield RawCase(case_id, where, partial(_load, description, row, case_id))


def _case_ids(description: Description) -> list[str]:
    """Names from the column ``case_id``, else of the first image's file, or of its path where files agree."""
    rows = description.table.rows
    if "case_id" in description.table.columns:
        return [row.cells["case_id"] for row in rows]
    paths = [Path(row.cells[description.images[0]]) for row in rows]
    short = [safe_name(stem(path.name)) for path in paths]
    if len(set(short)) == len(short):
        return short
    return [safe_name("_".join([*path.parts[:-1], stem(path.name)])) for path in paths]


def _load(description: Description, row: TableRow, case_id: str) -> LoadedCase:
    """Reads one case.

    Raises:
        CaseError: a cell or a file cannot be used; names the row and the column.
    """
    table, schema = description.table, description.schema
    findings: list[Finding] = []

    def volume(header: str, *, dicom: bool = False) -> Volume:
        path = table.path.parent / row.cells[header]
        try:
            if not (dicom and names_dicom(path)):
                return read_any(path)
            volume, found = read_dicom(path)
            findings.extend(told_of(found, header, case_id))
            return volume
        except CaseError as error:
            raise CaseError(error.code, f"row {row.number}, column {header!r}: {error}") from error

    for header in description.images:
        if is_blank(row.cells[header]):
            text = f"row {row.number}, column {header!r}: is blank; every case needs its image"
            raise CaseError("NO_USABLE_SERIES", text)
    images = tuple(volume(header, dicom=True) for header in description.images)
    for header, image in zip(description.images[1:], images[1:], strict=True):
        same_grid(f"row {row.number}, column {header!r}", image, images[0], "MIXED_GRID")
    labels = {}
    for name, column in schema.columns.items():
        given = description.headers.get(name)
        if column.kind not in ("mask", "map") or given is None or is_blank(row.cells[given]):
            continue
        where = f"row {row.number}, column {given!r}"
        label = volume(given)
        same_grid(where, label, images[0], "LABEL_GEOMETRY_MISMATCH")
        array = label.array
        if column.kind == "mask":
            names = {value: structure for structure, value in column.labels.items()}
            array = LabelMap(names, column.labels, (UNLABELLED,)).apply(array, where)
        labels[name] = Volume(array, images[0].geometry)
    cells = {
        name: "" if is_blank(row.cells[header]) else row.cells[header]
        for name, header in description.headers.items()
    }
    values = parse_values(TableRow(row.number, cells), schema.columns, table.path.name)
    frame_ed, frame_es, split = frames_and_split(row, table.path.name)
    patient = row.cells.get("patient") or case_id
    return LoadedCase(patient, images, labels, values, frame_ed, frame_es, split, tuple(findings))
