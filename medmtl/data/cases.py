"""``cases.csv``: one row per case, a blank cell means "not labelled"."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from medmtl.data.cells import is_safe_name, parse_class, parse_frame, parse_number
from medmtl.data.columns import Column, Schema
from medmtl.data.problems import Problems
from medmtl.registry import nearest

FILE = "cases.csv"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Case:
    """One case: a 3D volume, an ED/ES pair or a whole cine, and what is known about it.

    Attributes:
        case_id: unique in the dataset, safe as a file name.
        patient: cases of one patient never stand in two splits.
        split: ``train``, ``val``, ``test`` or blank.
        images: one file per channel, each ``(X, Y, Z)`` or ``(X, Y, Z, T)``.
        frame_ed: 0-based frame of end diastole, where given.
        frame_es: 0-based frame of end systole, where given.
        files: the labelled mask and map columns.
        values: the given category and value cells.
    """

    case_id: str
    patient: str
    split: str
    images: tuple[Path, ...]
    frame_ed: int | None = None
    frame_es: int | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    values: Mapping[str, float | str] = field(default_factory=dict)


class Row(NamedTuple):
    """A case and its row in the spreadsheet (the header is row 1)."""

    number: int
    case: Case


def read_cases(root: Path, schema: Schema, problems: Problems) -> list[Row]:
    """Reads ``cases.csv`` of a dataset folder.

    Args:
        root: the dataset folder; relative paths in the table start there.
        schema: what the columns mean.
        problems: takes every cell that cannot be used.

    Returns:
        the rows that have a case_id, in the order of the file.
    """
    table = _read_table(root / FILE, problems)
    if not table:
        return []
    _, header = table[0]
    if not _check_header(header, schema, problems):
        return []
    rows = []
    for number, cells in table[1:]:
        if len(cells) > len(header) and any(cells[len(header) :]):
            found = f"found {len(cells)} cells under {len(header)} column names"
            problems.add(f"{found}; put quotes around a cell with a comma", file=FILE, row=number)
            continue
        case = _CellReader(dict(zip(header, cells, strict=False)), number, problems).case(root, schema)
        if case is not None:
            rows.append(Row(number, case))
    if not rows and not len(problems):
        problems.add("has no rows; a dataset needs at least one case", file=FILE)
    _check_unique(rows, problems)
    return rows


def write_cases(root: Path, schema: Schema, cases: Iterable[Case]) -> None:
    """Writes ``cases.csv``, with paths relative to the dataset folder; reading it back gives equal cases."""
    with (root / FILE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, schema.csv_columns, restval="", lineterminator="\n")
        writer.writeheader()
        for case in cases:
            row: dict[str, object] = {"case_id": case.case_id, "patient": case.patient, "split": case.split}
            row |= {
                name: _relative(path, root)
                for name, path in zip(schema.image_columns, case.images, strict=True)
            }
            row |= {"frame_ed": _blank_if_none(case.frame_ed), "frame_es": _blank_if_none(case.frame_es)}
            row |= {name: _relative(path, root) for name, path in case.files.items()}
            row |= {name: number_text(v) if isinstance(v, float) else v for name, v in case.values.items()}
            writer.writerow(row)


class _CellReader:
    """Reads the cells of one row and notes what cannot be used."""

    def __init__(self, cells: Mapping[str, str], number: int, problems: Problems) -> None:
        self.cells = cells
        self.number = number
        self.problems = problems

    def add(self, column: str, text: str) -> None:
        self.problems.add(text, file=FILE, row=self.number, column=column)

    def case(self, root: Path, schema: Schema) -> Case | None:
        case_id, patient, split = (self.cells.get(name, "") for name in ("case_id", "patient", "split"))
        if not case_id:
            self.add("case_id", "is blank; every case needs a name")
            return None
        if not is_safe_name(case_id):
            self.add(
                "case_id",
                f"found {case_id!r}, which cannot name a file; use letters, digits, '.', '_' and '-'",
            )
            return None
        if not patient:
            self.add("patient", f"is blank; say whose case it is ({case_id!r} where nothing else is known)")
        if split not in ("", *SPLITS):
            self.add(
                "split",
                f"found {split!r}; it is one of train, val, test or blank{nearest(split, list(SPLITS))}",
            )
        images = tuple(root / self.cells[name] for name in schema.image_columns if self.cells.get(name))
        for name in schema.image_columns:
            if not self.cells.get(name):
                self.add(name, "is blank; every case needs its image")
        frame_ed, frame_es = self.frame("frame_ed"), self.frame("frame_es")
        if frame_ed is not None and frame_ed == frame_es:
            self.add(
                "frame_es",
                f"found {frame_es}, the same frame as frame_ed; give two frames or leave one blank",
            )
        files = {
            name: root / self.cells[name]
            for name, column in schema.columns.items()
            if column.kind in ("mask", "map") and self.cells.get(name)
        }
        values = {
            name: value
            for name, column in schema.columns.items()
            if column.kind in ("category", "value") and (value := self.value(column)) is not None
        }
        return Case(case_id, patient, split, images, frame_ed, frame_es, files, values)

    def frame(self, name: str) -> int | None:
        text = self.cells.get(name, "")
        try:
            return parse_frame(text) if text else None
        except ValueError as error:
            self.add(name, str(error))
            return None

    def value(self, column: Column) -> float | str | None:
        text = self.cells.get(column.name, "")
        if not text:
            return None
        try:
            return parse_class(text, column.classes) if column.kind == "category" else parse_number(text)
        except ValueError as error:
            self.add(column.name, str(error))
            return None


def _read_table(path: Path, problems: Problems) -> list[tuple[int, list[str]]]:
    """The rows that are not blank, each with its number; the first is the header."""
    if not path.is_file():
        problems.add("there is no such file; every dataset has one row per case there", file=path.name)
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file, strict=True)]
    except UnicodeDecodeError as error:
        problems.add(
            f"is not UTF-8 text ({error.reason} at byte {error.start}); save it as CSV UTF-8", file=path.name
        )
        return []
    except csv.Error as error:
        problems.add(f"cannot be read as CSV ({error})", file=path.name)
        return []
    table = [(number, row) for number, row in enumerate(rows, start=1) if any(row)]
    if not table:
        problems.add("is empty; its first row has to name the columns", file=path.name)
    return table


def _check_header(header: Sequence[str], schema: Schema, problems: Problems) -> bool:
    before = len(problems)
    known = schema.csv_columns
    if len(header) == 1 and ";" in header[0]:
        problems.add("its cells are separated by semicolons; save it with commas", file=FILE, row=1)
        return False
    for name, count in Counter(header).items():
        if count > 1:
            problems.add(f"stands there {count} times; keep one", file=FILE, row=1, column=name)
        if name not in known:
            text = (
                f"unknown column{nearest(name, list(known))}"
                if name
                else "a column without a name holds cells"
            )
            problems.add(
                f"{text}; a new column has to be described in dataset.yaml", file=FILE, row=1, column=name
            )
    for name in ("case_id", "patient", "split", *schema.image_columns):
        if name not in header:
            problems.add("this column is missing; add it", file=FILE, row=1, column=name)
    return len(problems) == before


def _check_unique(rows: Sequence[Row], problems: Problems) -> None:
    """Every case once, every patient in one split."""
    first: dict[str, Row] = {}
    seen_split: dict[str, Row] = {}
    for row in rows:
        case_id, patient, split = row.case.case_id, row.case.patient, row.case.split
        earlier = first.setdefault(case_id, row)
        if earlier is not row:
            text = f"{case_id!r} stands in row {earlier.number} already; give every case its own name"
            if earlier.case.split != split:
                text = (
                    f"the case {case_id!r} is in two splits, {earlier.case.split or 'blank'!r} in row "
                    f"{earlier.number} and {split or 'blank'!r} here; keep it in one, or what is tested was "
                    "trained on"
                )
            problems.add(text, file=FILE, row=row.number, column="case_id")
            continue
        if not split or not patient:
            continue
        other = seen_split.setdefault(patient, row)
        if other.case.split != split:
            problems.add(
                f"the patient {patient!r} is in two splits, {other.case.split!r} in row {other.number} "
                f"and {split!r} here; keep a patient's cases in one split, or what is tested was trained on",
                file=FILE,
                row=row.number,
                column="split",
            )


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _blank_if_none(frame: int | None) -> object:
    return "" if frame is None else frame


def number_text(number: float) -> str:
    """A number as a table holds it, which reads back equal."""
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
