"""The raw files of medmtl's phantom studies: one folder per case, and ``truth.csv`` with the analytic truth.

Which study it is, a column of the truth says that only that study has.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

from medmtl.data.cases import SPLITS
from medmtl.data.cells import parse_class, parse_frame, parse_number
from medmtl.data.columns import Column, Cycle, Derived, Schema
from medmtl.data.formats.base import FORMATS, DatasetFormat, LoadedCase, RawCase
from medmtl.data.formats.cardiac import cardiac_columns
from medmtl.data.nifti import Volume, read_volume
from medmtl.registry import nearest
from medmtl.types import CaseError, DatasetError

TRUTH = "truth.csv"

_FOLDER = re.compile(r"phantom_\d+")
_KEYS = ("case_id", "patient", "frame_ed", "frame_es", "time_step_ms", "split")


@FORMATS.register("phantom")
class Phantom(DatasetFormat):
    """Phantom cases; a missing label file or a blank cell means "not labelled".

    The typed truth is kept, and every quantity also says how it follows from a mask, so that the same column
    can be computed from predicted masks.
    """

    looks_for: ClassVar[str] = f"folders phantom_0001, phantom_0002, ... beside {TRUTH}"
    stratify_by: ClassVar[str | None] = "disease"

    def recognizes(self, path: Path) -> str | None:
        """``truth.csv`` with a phantom folder beside it."""
        if not (path / TRUTH).is_file():
            return None
        first = min(
            (folder.name for folder in path.iterdir() if _FOLDER.fullmatch(folder.name)), default=None
        )
        return f"{TRUTH} and the folder {first}" if first is not None else None

    def schema(self, path: Path) -> Schema:
        """Of the heart: ACDC's columns, tissue mask, T1 map and scar mass; of the trunk: see `_STUDIES`."""
        header = _header(path / TRUTH)
        study = next((make for column, make in _STUDIES.items() if column in header), _heart)
        return study()

    def read(self, path: Path) -> Iterable[RawCase]:
        """One case per row of ``truth.csv``, and per folder that has none."""
        schema = self.schema(path)
        rows = _read_truth(path / TRUTH, schema.columns)
        folders = {folder.name for folder in path.iterdir() if _FOLDER.fullmatch(folder.name)}
        for case_id in sorted(rows.keys() | folders):
            yield RawCase(case_id, case_id, partial(_load, path / case_id, rows.get(case_id), schema))


def _heart() -> Schema:
    cardiac = cardiac_columns()
    columns = {
        "anatomy": cardiac.pop("anatomy"),
        "tissue": Column("tissue", "mask", labels={"healthy": 1, "scar": 2}),
        "t1": Column("t1", "map", unit="ms"),
        **cardiac,
        "scar_mass": Column("scar_mass", "value", unit="g", derived=Derived("mass", "tissue", "scar", "ED")),
    }
    return Schema("phantom", "MR", ("cine", "lge"), columns, Cycle("anatomy", "LV"))


def _ct() -> Schema:
    columns = [
        Column("organs", "mask", labels={"liver": 1, "lesion": 2}),
        Column("effusion", "category", classes=("no", "yes")),
        Column("effusion_ml", "value", unit="mL"),
        Column("lesion_ml", "value", unit="mL", derived=Derived("volume", "organs", "lesion")),
    ]
    return Schema("phantom-ct", "CT", ("ct",), {column.name: column for column in columns})


def _petct() -> Schema:
    columns = [
        Column("lesions", "mask", labels={"lesion": 1}),
        Column("bulk", "category", classes=("no", "yes")),
        Column("metabolic_volume", "value", unit="mL", derived=Derived("volume", "lesions", "lesion")),
    ]
    return Schema("phantom-petct", "PT", ("ct", "suv"), {column.name: column for column in columns})


_STUDIES = {"effusion": _ct, "metabolic_volume": _petct}
"""Studies of the trunk, by a column of the truth that only they have."""


def _header(path: Path) -> list[str]:
    """The first row of the truth; empty where it cannot be read, which `_read_truth` says."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _read_truth(path: Path, columns: Mapping[str, Column]) -> dict[str, dict[str, str]]:
    """The rows of ``truth.csv`` by case_id.

    Raises:
        DatasetError: the table cannot be read, has an unknown column or names a case twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval="", strict=True)
            header = list(reader.fieldnames or ())
            lines = list(enumerate(reader, start=2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read as CSV ({error})") from error
    known = [*_KEYS, *(name for name, column in columns.items() if column.kind in ("category", "value"))]
    for name in header:
        if name not in known:
            raise DatasetError(f"{path}, row 1: unknown column {name!r}{nearest(name, known)}")
    if "case_id" not in header:
        raise DatasetError(f"{path}, row 1: the column 'case_id' is missing; add it")
    rows: dict[str, dict[str, str]] = {}
    for number, row in lines:
        case_id = row["case_id"].strip()
        if not case_id or case_id in rows:
            what = f"{case_id!r} stands there twice" if case_id else "is blank"
            raise DatasetError(f"{path}, row {number}, column 'case_id': {what}; name every case once")
        rows[case_id] = {name: text.strip() for name, text in row.items() if name and isinstance(text, str)}
    return rows


def _load(folder: Path, row: Mapping[str, str] | None, schema: Schema) -> LoadedCase:
    """Reads one phantom.

    Raises:
        CaseError: an image is missing, a file cannot be read, or a cell of the truth is no number or class.
    """
    if row is None:
        raise CaseError("UNDECODABLE", f"{folder.name} has no row in {TRUTH}; add one")
    columns = schema.columns
    values: dict[str, float | str] = {}
    frames: dict[str, int] = {}
    step, split = None, ""
    for name, text in row.items():
        if not text or name in ("case_id", "patient"):
            continue
        try:
            if name in ("frame_ed", "frame_es"):
                frames[name] = parse_frame(text)
            elif name == "time_step_ms":
                step = parse_number(text)
            elif name == "split":
                split = parse_class(text, SPLITS, "splits")
            elif columns[name].kind == "category":
                values[name] = parse_class(text, columns[name].classes)
            else:
                values[name] = parse_number(text)
        except ValueError as error:
            raise CaseError("LABEL_VALUES", f"{TRUTH}, {folder.name}, column {name!r}: {error}") from error
    images = tuple(_read(folder / f"{channel}.nii.gz", step) for channel in schema.channels)
    labels = {
        name: _read(path, step)
        for name, column in columns.items()
        if column.kind in ("mask", "map") and (path := folder / f"{name}.nii.gz").is_file()
    }
    patient = row.get("patient") or folder.name
    frame_ed, frame_es = frames.get("frame_ed"), frames.get("frame_es")
    return LoadedCase(patient, images, labels, values, frame_ed, frame_es, split)


def _read(path: Path, time_step_ms: float | None) -> Volume:
    try:
        volume = read_volume(path)
    except CaseError as error:
        raise CaseError(error.code, str(error).replace(f"{path.parent.parent}/", "")) from error
    step = time_step_ms if time_step_ms is not None else volume.time_step_ms
    return Volume(volume.array, volume.geometry, step)
