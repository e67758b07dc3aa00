"""What a BIDS data set says in tables: participants, sessions, and the names of structures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medmtl.data.columns import Column
from medmtl.data.formats.bids_files import BidsFile
from medmtl.data.formats.description import read_json
from medmtl.data.formats.infer import Unusable, infer, is_personal
from medmtl.data.formats.tables import Table, TableRow, is_blank, read_table
from medmtl.types import DatasetError, Finding

PARTICIPANTS = "participants.tsv"
KEYS = ("participant_id", "session_id", "acq_time", "case_id", "patient", "split", "frame_ed", "frame_es")
"""Columns that say which case a row is about, or mean what they mean in ``cases.csv``."""


@dataclass(frozen=True)
class Covariates:
    """Participants' and sessions' tables together.

    Attributes:
        columns: categories and values.
        left_out: columns that are neither, with the reason.
    """

    columns: Mapping[str, Column]
    left_out: Mapping[str, str]
    _participants: Mapping[str, TableRow] = field(default_factory=dict)
    _sessions: Mapping[tuple[str, str], TableRow] = field(default_factory=dict)

    def remarks(self, where: str) -> tuple[Finding, ...]:
        """Says which columns are not read, and why."""
        texts = (f"the column {name!r} is not read: it {why}" for name, why in self.left_out.items())
        return tuple(Finding("LABEL_VALUES", "info", text, where) for text in texts)

    def row(self, sub: str, ses: str) -> TableRow | None:
        """The cells of a case: its participant's, and over them its session's; None where there is no row."""
        rows = [self._participants.get(f"sub-{sub}"), self._sessions.get((sub, ses))]
        found = [row for row in rows if row is not None]
        if not found:
            return None
        cells = {name: cell for row in found for name, cell in row.cells.items() if not is_blank(cell)}
        return TableRow(found[-1].number, cells)


def read_covariates(root: Path, subjects: Iterable[str]) -> Covariates:
    """Reads ``participants.tsv`` and every ``sub-X_sessions.tsv``, with the JSON files that describe them.

    Raises:
        DatasetError: a table or a description cannot be used.
    """
    participants: dict[str, TableRow] = {}
    sessions: dict[tuple[str, str], TableRow] = {}
    tables = []
    described: dict[str, Any] = {}
    if (root / PARTICIPANTS).is_file():
        table = read_table(root / PARTICIPANTS, required=("participant_id",))
        participants = table.by("participant_id")
        tables.append(table)
        described |= _described(root / "participants.json")
    described |= _described(root / "sessions.json")
    for sub in subjects:
        path = root / f"sub-{sub}" / f"sub-{sub}_sessions.tsv"
        if not path.is_file():
            continue
        table = read_table(path, required=("session_id",))
        tables.append(table)
        sessions |= {(sub, name.removeprefix("ses-")): row for name, row in table.by("session_id").items()}
        described |= _described(path.with_suffix(".json"))
    columns: dict[str, Column] = {}
    left_out: dict[str, str] = {}
    for name in dict.fromkeys(name for table in tables for name in table.columns if name not in KEYS):
        found = _column(name, _together(name, tables), described.get(name))
        if isinstance(found, Unusable):
            left_out[name] = found.reason
        else:
            columns[found.name] = found
    return Covariates(columns, left_out, participants, sessions)


def _together(name: str, tables: list[Table]) -> Table:
    rows = [row for table in tables if name in table.columns for row in table.rows]
    return Table(tables[0].path, (name,), tuple(rows))


def _column(name: str, table: Table, described: object) -> Column | Unusable:
    """As the JSON file describes it (``Levels``, ``Units``), else as its cells say."""
    told = described if isinstance(described, dict) else {}
    levels, units = told.get("Levels"), told.get("Units")
    if is_personal(name):
        return Unusable("has a name that speaks of personal data")
    if isinstance(levels, (dict, list)) and levels:
        return Column(name, "category", classes=tuple(dict.fromkeys(str(level) for level in levels)))
    found = infer(table, name)
    if isinstance(found, Column) and found.kind == "value" and isinstance(units, str):
        return Column(found.name, "value", unit=units)
    return found


def _described(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def structure_names(files: Iterable[BidsFile], root: Path) -> dict[int, str]:
    """What the numbers of some ``dseg`` files mean, from the ``dseg.tsv`` files that apply to them.

    A table applies to the files in its folder and below whose names have all entities of its own.

    Raises:
        DatasetError: a table cannot be used, or two contradict each other.
    """
    names: dict[int, str] = {}
    source: dict[int, Path] = {}
    for path in dict.fromkeys(table for file in files for table in _tables_of(file, root)):
        table = read_table(path, required=("index", "name"))
        for row in table.rows:
            text, name = row.cells["index"], row.cells["name"]
            if not text.isdigit() or not name:
                found = f"found {text!r}, {name!r}; a number and a name are needed"
                raise table.error(row.number, "index", found)
            index = int(text)
            if names.setdefault(index, name) != name:
                other = f"and in {source[index]} it is {names[index]!r}"
                raise DatasetError(f"{path}, row {row.number}: {index} is {name!r}, {other}; make them agree")
            source.setdefault(index, path)
    names.pop(0, None)
    return names


def _tables_of(file: BidsFile, root: Path) -> list[Path]:
    found = []
    folder = file.path.parent
    while folder.is_relative_to(root):
        for path in sorted(folder.glob("*dseg.tsv")):
            parts = [part for part in path.name.removesuffix(".tsv").split("_")[:-1] if part]
            if all(file.entities.get(part.partition("-")[0]) == part.partition("-")[2] for part in parts):
                found.append(path)
        folder = folder.parent
    return found
