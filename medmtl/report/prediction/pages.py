"""A page per study, drawn where there is none yet or where what it shows has changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl._version import __version__
from medmtl.data.cells import is_safe_name
from medmtl.files import write_text
from medmtl.inference.preview import PREVIEW
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
    """Draw ``OUT/<case_id>/report.html`` of every study with a result, unless it stands as it would be drawn.

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
    shared = f"{__version__} {is_mr} {material.outputs!r} {spreads!r}"
    drawn = 0
    for number, row in enumerate(rows):
        folder, place = root / str(row["case_id"]), _place(rows, number)
        mark = _mark(folder, f"{shared} {place!r} {row!r}")
        if _ends_with(folder / PAGE, mark):
            drawn += 1
            continue
        try:
            page = read_study(folder, row, material.outputs, spreads, is_mr=is_mr)
        except OutputError as error:
            LOG.warning("no page: %s", error)
            (folder / PAGE).unlink(missing_ok=True)
            continue
        write_text(folder / PAGE, template.render(page=page, place=place) + mark)
        drawn += 1
    return drawn


def _mark(folder: Path, shown: str) -> str:
    """The end of a page: a digest of all that it shows; of files, their sizes and times."""
    stamps = []
    for name in ("prediction.json", PREVIEW):
        if (folder / name).is_file():
            seen = (folder / name).stat()
            stamps.append((name, seen.st_size, seen.st_mtime_ns))
    return f"<!-- {hashlib.sha256(f'{shown} {stamps}'.encode()).hexdigest()} -->\n"


def _ends_with(path: Path, mark: str) -> bool:
    """Whether a page was drawn whole, from the same."""
    if not path.is_file() or path.stat().st_size < len(mark):
        return False
    with path.open("rb") as page:
        page.seek(-len(mark), 2)
        return page.read() == mark.encode()


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
