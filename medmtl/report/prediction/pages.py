"""A page per study, drawn where it is not drawn yet."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.data.cells import is_safe_name
from medmtl.files import write_text
from medmtl.report.html import environment
from medmtl.report.material import Material
from medmtl.report.prediction.cells import PAGE
from medmtl.report.prediction.study import read_study
from medmtl.report.prediction.values import spreads_of
from medmtl.types import OutputError

if TYPE_CHECKING:
    from pandas import DataFrame

LOG = logging.getLogger("medmtl.report")


def draw_pages(material: Material) -> int:
    """Draw ``OUT/<case_id>/report.html`` of every study with a result.

    A study whose files are damaged gets no page; that is logged, and the others go on.

    Returns:
        how many pages there are.

    Raises:
        OutputError: a page cannot be written.
    """
    table = material.predictions
    if table is None or material.predictions_folder is None:
        return 0
    root = material.predictions_folder
    rows = [row for row in _results(table) if _has_folder(root, str(row["case_id"]))]
    spreads = spreads_of(table, material.outputs)
    template = environment().get_template("prediction/study.html")
    is_mr = material.dataset is None or material.dataset.modality.upper().startswith("MR")
    drawn = 0
    for number, row in enumerate(rows):
        folder = root / str(row["case_id"])
        try:
            page = read_study(folder, row, material.outputs, spreads, is_mr=is_mr)
        except OutputError as error:
            LOG.warning("no page: %s", error)
            (folder / PAGE).unlink(missing_ok=True)
            continue
        write_text(folder / PAGE, template.render(page=page, place=_place(rows, number)))
        drawn += 1
    return drawn


def _results(table: DataFrame) -> list[Mapping[str, Any]]:
    """Rows of studies that may have a folder: one that could not be sent failed, and has its results."""
    done = table[table["status"].isin(("ok", "failed"))] if "status" in table.columns else table
    return list(done.to_dict("records"))


def _has_folder(root: Path, case_id: str) -> bool:
    """Names come from a table that anybody may have written: none may lead outside."""
    return is_safe_name(case_id) and (root / case_id / "prediction.json").is_file()


def _place(rows: list[Mapping[str, Any]], number: int) -> Mapping[str, Any]:
    """Where the page stands among the others."""
    from urllib.parse import quote

    def address(other: int) -> str:
        return f"../{quote(str(rows[other]['case_id']))}/{PAGE}" if 0 <= other < len(rows) else ""

    return {
        "number": number + 1,
        "of": len(rows),
        "previous": address(number - 1),
        "next": address(number + 1),
    }
