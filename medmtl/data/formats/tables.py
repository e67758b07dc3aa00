"""Tables that come with data sets (CSV, TSV): rows with their numbers, and errors that name the cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medmtl.data.formats.labels import first_doubled
from medmtl.registry import nearest
from medmtl.types import DatasetError

BLANKS = frozenset({"", "n/a", "na", "nan"})
"""What people write into a cell, in any case, when they mean that a value is not known."""


@dataclass(frozen=True)
class TableRow:
    """One row: its number as a spreadsheet counts (the header is row 1) and its cells by column."""

    number: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A table with named columns; cells are stripped, and every row has every column.

    Attributes:
        path: the file.
        columns: names in their order; a column without a name (a data frame's index) is left out.
        rows: those that are not blank.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]

    def need(self, *columns: str) -> None:
        """Makes sure that some columns are there.

        Raises:
            DatasetError: one is missing.
        """
        for name in columns:
            if name not in self.columns:
                hint = nearest(name, list(self.columns))
                raise DatasetError(f"{self.path}, row 1: the column {name!r} is missing{hint}")

    def by(self, column: str) -> dict[str, TableRow]:
        """The rows by a column whose cells are unique and not blank.

        Raises:
            DatasetError: a cell is blank or stands there twice.
        """
        self.need(column)
        rows: dict[str, TableRow] = {}
        for row in self.rows:
            key = row.cells[column]
            if not key or key in rows:
                what = f"{key!r} stands in row {rows[key].number} already" if key else "is blank"
                raise self.error(row.number, column, f"{what}; name every row once")
            rows[key] = row
        return rows

    def error(self, row: int, column: str, text: str) -> DatasetError:
        """An error about a cell."""
        return DatasetError(f"{self.path}, row {row}, column {column!r}: {text}")


def is_blank(cell: str) -> bool:
    """Whether a cell says that nothing is known."""
    return cell.lower() in BLANKS


def header_of(path: Path) -> tuple[str, ...]:
    """The column names of a table, or nothing where it cannot be read; for guessing a format."""
    try:
        with path.open("rb") as file:
            line = file.readline(65536).decode("utf-8-sig", errors="replace")
    except OSError:
        return ()
    try:
        [names] = csv.reader([line], delimiter=_delimiter(line), strict=True)
    except (csv.Error, ValueError):
        return ()
    return tuple(name.strip() for name in names)


def read_table(path: Path, *, required: Sequence[str] = ()) -> Table:
    """Reads a table separated by commas, semicolons or tabs, whichever its header uses.

    Args:
        path: the file.
        required: columns that have to be there.

    Raises:
        DatasetError: the file cannot be read, a column name stands there twice, or a row has too many cells.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = "there is no such file" if not path.exists() else error.strerror
        raise DatasetError(f"{path}: cannot be read ({reason})") from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save it as CSV UTF-8"
        ) from error
    first, _, _ = text.partition("\n")
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(first), strict=True))
    except csv.Error as error:
        raise DatasetError(f"{path}: cannot be read as a table ({error})") from error
    numbered = [(number, [cell.strip() for cell in line]) for number, line in enumerate(lines, start=1)]
    numbered = [(number, cells) for number, cells in numbered if any(cells)]
    if not numbered:
        raise DatasetError(f"{path}: is empty; its first row has to name the columns")
    (_, names), *body = numbered
    if (doubled := first_doubled(name for name in names if name)) is not None:
        raise DatasetError(f"{path}, row 1: the column {doubled!r} stands there twice; keep one")
    rows = []
    for number, cells in body:
        if any(cells[len(names) :]):
            raise DatasetError(
                f"{path}, row {number}: found {len(cells)} cells under {len(names)} column names; put quotes "
                "around a cell that holds a separator"
            )
        padded = cells + [""] * (len(names) - len(cells))
        rows.append(TableRow(number, {name: cell for name, cell in zip(names, padded, strict=False) if name}))
    table = Table(path, tuple(name for name in names if name), tuple(rows))
    table.need(*required)
    return table


def _delimiter(header: str) -> str:
    counts = {mark: header.count(mark) for mark in ("\t", ",", ";")}
    return max(counts, key=lambda mark: counts[mark]) if any(counts.values()) else ","
