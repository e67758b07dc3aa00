"""Holds the headers of a case's volumes against each other and against its row in ``cases.csv``."""

from __future__ import annotations

from collections.abc import Callable

from medmtl.data.cases import FILE as CASES_FILE
from medmtl.data.cases import Case, Row
from medmtl.data.columns import Schema
from medmtl.data.nifti import Geometry, read_geometry
from medmtl.data.problems import Problems
from medmtl.data.schema import FILE as SCHEMA_FILE
from medmtl.types import CaseError

Add = Callable[[str, str], None]


def check_headers(row: Row, schema: Schema, problems: Problems) -> Geometry | None:
    """Reads all headers of a case.

    Args:
        row: the case and its row.
        schema: what the columns mean.
        problems: takes what is missing, unreadable, on another grid or out of range.

    Returns:
        grid and frames of the first image, or None where it cannot be used.
    """

    def add(column: str, text: str) -> None:
        problems.add(text, file=CASES_FILE, row=row.number, column=column)

    if len(row.case.images) != len(schema.image_columns):
        return None  # a blank image cell, which is noted already
    grid = _common_grid(row.case, schema, add)
    if grid is not None:
        _check_frames(row.case, schema, grid, add)
    return grid


def _common_grid(case: Case, schema: Schema, add: Add) -> Geometry | None:
    first = schema.image_columns[0]
    grid: Geometry | None = None
    for column, path in [*zip(schema.image_columns, case.images, strict=True), *case.files.items()]:
        try:
            geometry = read_geometry(path)
        except CaseError as error:
            add(column, str(error))
            continue
        if column == first:
            grid = geometry
        elif grid is not None:
            if difference := geometry.differs_from(grid):
                add(column, f"{path} has {difference} of the {first}; bring both onto one grid")
            elif geometry.frames != grid.frames:
                found = f"{path} has {geometry.frames} frame(s) and the {first} {grid.frames}"
                add(column, f"{found}; give both the same, 255 where a frame of a mask is not labelled")
    return grid


def _check_frames(case: Case, schema: Schema, grid: Geometry, add: Add) -> None:
    for column, frame in (("frame_ed", case.frame_ed), ("frame_es", case.frame_es)):
        if frame is not None and frame >= grid.frames:
            add(column, f"found {frame}, and the image has {grid.frames} frame(s), counted from 0")
    for name, column_spec in schema.columns.items():
        derived = column_spec.derived
        if derived is None or derived.frame is not None or derived.quantity not in ("volume", "mass"):
            continue
        if grid.frames > 1 and name not in case.values and derived.mask in case.files:
            found = f"is derived without a phase, and the case has {grid.frames} frames"
            add(name, f"{found}; write `frame: ED` or `frame: ES` into its `derived` in {SCHEMA_FILE}")
