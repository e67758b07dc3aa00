"""A PREDICTIONS folder: ``predictions.csv``, the volumes of each case, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medmtl.data import Column
from medmtl.data.cells import is_safe_name
from medmtl.evaluation.header import Header, parse_header
from medmtl.evaluation.infer import SUFFIX, infer_tasks, with_value_columns
from medmtl.evaluation.tasks import FILE as OUTPUTS_FILE
from medmtl.evaluation.tasks import PredictedTask, declared_tasks
from medmtl.types import ConfigError

if TYPE_CHECKING:
    from pandas import DataFrame

TABLE_FILE = "predictions.csv"


@dataclass(frozen=True, eq=False)
class Predictions:
    """A predictions folder that was read.

    Attributes:
        root: the folder.
        table: ``predictions.csv`` as text, indexed by case_id; blank cells are "".
        rows: line of each case in ``predictions.csv``; the header is row 1.
        headers: its output columns.
        tasks: what the outputs mean.
        notes: what could not be understood.
    """

    root: Path
    table: DataFrame
    rows: Mapping[str, int]
    headers: tuple[Header, ...]
    tasks: Mapping[str, PredictedTask]
    notes: tuple[str, ...]

    def status(self, case_id: str) -> tuple[str, str, str]:
        """Status, code and message of a case; ``missing`` for a case without a row.

        A table made elsewhere may have no such columns: then every row is ``ok``.
        """
        if case_id not in self.rows:
            return "missing", "", f"{self.root / TABLE_FILE} has no row for it"
        row = self.table.loc[case_id]
        return row.get("status", "") or "ok", row.get("code", ""), row.get("message", "")

    def header_of(self, task: str, name: str) -> Header | None:
        """The column that holds a value, class or probability."""
        return next((h for h in self.headers if h.task == task and h.name == name), None)

    def text(self, case_id: str, header: Header | None) -> str:
        """A cell, "" where it is blank or not there."""
        if header is None or case_id not in self.rows:
            return ""
        return str(self.table.at[case_id, header.column]).strip()

    def number(self, case_id: str, header: Header | None) -> float:
        """A cell as a number, ``nan`` where it is blank.

        Raises:
            ConfigError: the cell holds something else.
        """
        text = self.text(case_id, header)
        if text.lower() in ("", "nan"):
            return math.nan
        try:
            value = float(text)
        except ValueError:
            value = math.inf
        if math.isfinite(value):
            return value
        assert header is not None
        raise ConfigError(
            f"{self.root / TABLE_FILE}, row {self.rows[case_id]}, column {header.column!r}: found {text!r}, "
            "which is not a finite number; write one with a decimal point or leave the cell blank"
        )


def read_predictions(folder: Path, columns: Mapping[str, Column]) -> Predictions:
    """Reads a predictions folder, made by medmtl or elsewhere.

    Args:
        folder: with ``predictions.csv``, ``<case_id>/segmentation.nii.gz`` and, where medmtl made it,
            ``outputs.yaml``.
        columns: of the dataset; without ``outputs.yaml`` they tell what the files and columns mean.

    Raises:
        ConfigError: the table is missing or cannot be read, or a case stands in it twice.
    """
    table, rows = _read_table(folder)
    headers = tuple(header for name in table.columns if (header := parse_header(str(name))) is not None)
    notes: list[str] = []
    if (folder / OUTPUTS_FILE).is_file():
        tasks = declared_tasks(folder / OUTPUTS_FILE)
        undeclared = sorted({header.task for header in headers} - set(tasks))
        notes += [
            f"{OUTPUTS_FILE} does not name the task {name!r}; its columns are not scored"
            for name in undeclared
        ]
    else:
        names = {
            path.name
            for case_id in filter(is_safe_name, rows)
            for path in (folder / case_id).glob(f"*{SUFFIX}")
        }
        tasks, notes = infer_tasks(headers, names, columns)
    return Predictions(folder, table, rows, headers, with_value_columns(tasks, headers), tuple(notes))


def _read_table(folder: Path) -> tuple[DataFrame, dict[str, int]]:
    import pandas as pd

    path = folder / TABLE_FILE
    if not path.is_file():
        raise ConfigError(
            f"no {TABLE_FILE} in {folder}, so this is not a predictions folder; write one with a row per "
            "case (column case_id) or make it with `medmtl predict`"
        )
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a table ({error}); save it as CSV UTF-8") from error
    if "case_id" not in table.columns:
        raise ConfigError(
            f"{path}, row 1: no column case_id, found {', '.join(map(str, table.columns))}; add it"
        )
    rows: dict[str, int] = {}
    for number, case_id in enumerate(table["case_id"], start=2):
        if case_id in rows:
            raise ConfigError(
                f"{path}, row {number}, column case_id: {case_id!r} stands in row {rows[case_id]} already; "
                "keep the row that is to be scored"
            )
        rows[case_id] = number
    return table.set_index("case_id"), rows
