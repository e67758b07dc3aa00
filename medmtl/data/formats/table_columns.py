"""What the columns of a plain table mean: told from its cells, or said by a YAML file beside it.

The YAML file has the table's name and the words of ``dataset.yaml``, and needs to hold only what is to be
said otherwise: ``columns: {lesion: {labels: {edema: 1, core: 2}}}``, ``ignore: [notes]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from medmtl.data.columns import Column, Schema
from medmtl.data.formats.description import modality_of
from medmtl.data.formats.infer import Unusable, infer, is_personal, split_unit
from medmtl.data.formats.labels import MAX_LABELS, first_doubled
from medmtl.data.formats.tables import Table, header_of, is_blank, read_table
from medmtl.data.formats.volumes import is_volume_name, read_any
from medmtl.data.problems import Problems
from medmtl.data.schema import column_section, parse_schema
from medmtl.registry import nearest
from medmtl.strict import load_yaml, yaml_problem
from medmtl.types import UNLABELLED, CaseError, DatasetError

ENDINGS = (".csv", ".tsv")
KEYS = ("case_id", "patient", "split", "frame_ed", "frame_es")
"""Columns that mean in the table what they mean in ``cases.csv``; all may be missing."""

YAML_KEYS = ("name", "modality", "columns", "cycle", "citation", "licence", "ignore")


def tables_with_images(path: Path) -> list[Path]:
    """The tables in a folder, or the path itself, whose header has a column of images."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    files = [file for file in files if file.suffix.lower() in ENDINGS and file.is_file()]
    return [file for file in files if any(_is_image(name) for name in header_of(file))]


@dataclass(frozen=True)
class Description:
    """A table and what its columns mean.

    Attributes:
        table: its rows.
        images: headers of the image columns, in the order of the channels.
        headers: header of each column of the schema that is in the table.
        schema: what the columns mean.
    """

    table: Table
    images: tuple[str, ...]
    headers: Mapping[str, str]
    schema: Schema

    @classmethod
    def read(cls, path: Path) -> Description:
        """Reads the table and the YAML file beside it.

        Args:
            path: the table, or a folder with one that names images.

        Raises:
            DatasetError: one of them cannot be used, or a column means nothing that can be told.
        """
        tables = tables_with_images(path)
        if len(tables) != 1:
            names = ", ".join(file.name for file in tables)
            what = f"several tables name images ({names})" if tables else "no table names images"
            raise DatasetError(f"{path}: {what}; give the path of the one to read")
        table = read_table(tables[0])
        images = _image_columns(table)
        names_and_headers = [(split_unit(header)[0], header) for header in table.columns]
        if (doubled := first_doubled(name for name, _ in names_and_headers)) is not None:
            raise DatasetError(f"{table.path}, row 1: two columns are called {doubled!r}; rename one")
        said = said_by_yaml(_twin(table), [name for name, _ in names_and_headers])
        left_out = {*KEYS, *said.get("ignore", ())}
        headers = {
            name: header
            for name, header in names_and_headers
            if name not in left_out and header not in images
        }
        channels = ["image"] if images == ("image",) else [header[len("image_") :] for header in images]
        data = {
            "medmtl_dataset": 1,
            "name": table.path.resolve().parent.name,
            "modality": modality_of(tuple(channels)),
            **{key: value for key, value in said.items() if key not in ("columns", "ignore")},
            "channels": channels,
            "columns": column_sections(table, headers, said.get("columns", {})),
        }
        problems = Problems(table.path.parent)
        schema = parse_schema(data, problems, _twin(table).name)
        problems.raise_if_any()
        return cls(table, images, headers, schema)


def _is_image(header: str) -> bool:
    return header == "image" or (header.startswith("image_") and len(header) > len("image_"))


def _twin(table: Table) -> Path:
    return table.path.with_suffix(".yaml")


def _image_columns(table: Table) -> tuple[str, ...]:
    images = tuple(name for name in table.columns if _is_image(name))
    if "image" in images and len(images) > 1:
        shown = ", ".join(map(repr, images))
        raise DatasetError(
            f"{table.path}, row 1: found the columns {shown}; call all image_<channel>, or keep one"
        )
    return images


def said_by_yaml(path: Path, columns: Sequence[str], keys: Sequence[str] = YAML_KEYS) -> dict[str, Any]:
    """What the YAML file beside a table says; nothing where there is none.

    Args:
        path: the YAML file.
        columns: names of the table's columns.
        keys: what it may say; ``columns`` (a mapping) and ``ignore`` (a list of columns) have their own form.

    Raises:
        DatasetError: it is no YAML, or says something that cannot be.
    """
    if not path.is_file():
        return {}
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except yaml.YAMLError as error:
        raise DatasetError(f"{path}: cannot be read as YAML ({yaml_problem(error)})") from error
    if not isinstance(data, dict):
        raise DatasetError(f"{path}: found {data!r:.60}; it has to be a mapping of `name: value` lines")
    for key in data:
        if key not in keys:
            raise DatasetError(f"{path}: unknown key {key!r}{nearest(str(key), list(keys))}")
    if not isinstance(data.get("columns", {}), dict):
        raise DatasetError(f"{path}, columns: found {data['columns']!r:.60}; it has to be a mapping")
    ignored = data.get("ignore", [])
    if not isinstance(ignored, list):
        raise DatasetError(f"{path}, ignore: found {ignored!r:.60}; it has to be a list of columns")
    for name in ignored:
        if name not in columns:
            raise DatasetError(
                f"{path}, ignore: there is no column {name!r}{nearest(str(name), list(columns))}"
            )
    return data


def column_sections(table: Table, headers: Mapping[str, str], said: Mapping[str, Any]) -> dict[str, Any]:
    """Each column as ``dataset.yaml`` would say it: as told, else as its cells say.

    Args:
        table: the table; cells that name volumes are relative to its folder.
        headers: header of each column by its name (without its unit).
        said: section, or part of one, of columns by name; those that are not in the table are taken over.

    Raises:
        DatasetError: a column speaks of personal data, or means nothing that can be told.
    """
    sections: dict[str, Any] = {}
    for name, header in headers.items():
        if is_personal(name):
            raise DatasetError(
                f"{table.path}, row 1: the column {header!r} speaks of personal data, which no dataset may "
                f"hold; remove it, or list it under `ignore` in {_twin(table).name} (a research identifier "
                "of yours may stand in a column 'patient')"
            )
        told = said.get(name, {})
        if not isinstance(told, dict):
            sections[name] = told  # an error, which the schema's reader words
            continue
        if "labels" in told:
            told = {"kind": "mask", **told}
        complete = "kind" in told and (told["kind"] != "mask" or "labels" in told)
        found = {} if complete else column_section(_infer(table, header, masks=told.get("kind") == "mask"))
        sections[name] = {**found, **told}
    return {**sections, **{name: told for name, told in said.items() if name not in sections}}


def _infer(table: Table, header: str, *, masks: bool) -> Column:
    """What the cells of a column say.

    Raises:
        DatasetError: nothing that can be used; names the column, and the row where it is one cell.
    """
    cells = [(row.number, row.cells[header]) for row in table.rows if not is_blank(row.cells[header])]
    other = [(number, cell) for number, cell in cells if not is_volume_name(Path(cell).name)]
    if len(other) < len(cells) or masks:
        if other:
            number, cell = other[0]
            raise table.error(
                number, header, f"found {cell!r}, and other cells name files; name one here too"
            )
        return _mask_or_map(table, header, [cell for _, cell in cells])
    found = infer(table, header)
    if isinstance(found, Unusable):
        hint = (
            ""
            if found.row
            else f"; say what it means in {_twin(table).name}, or list it there under `ignore`"
        )
        raise table.error(found.row or 1, header, f"{found.reason}{hint}")
    return found


def _mask_or_map(table: Table, header: str, cells: Sequence[str]) -> Column:
    """A map where a file has other values than whole numbers; else a mask, structures called by number."""
    name, unit = split_unit(header)
    values: set[int] = set()
    for cell in cells:
        try:
            array = read_any(table.path.parent / cell).array
        except CaseError:
            continue  # the case that has this file says what is wrong with it
        if array.dtype.kind == "f" and not bool((array == np.rint(array)).all()):
            return Column(name, "map", unit=unit)
        values |= {int(value) for value in np.unique(array)}
    labels = sorted(values - {0, UNLABELLED})
    if len(labels) > MAX_LABELS or any(not 0 < value < UNLABELLED for value in labels):
        shown = ", ".join(map(str, labels[:3]))
        raise table.error(
            1,
            header,
            f"its files hold {len(labels)} values ({shown}, ...), too many or too large for a mask; say "
            f"`kind: map` in {_twin(table).name} if it is one",
        )
    return Column(name, "mask", labels={f"label_{value}": value for value in labels} or {"label_1": 1})
