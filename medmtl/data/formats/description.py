"""``dataset.json``, the file that describes a data set to nnU-Net and in the Medical Segmentation Decathlon.

medmtl's own exports add a key ``medmtl`` and a table ``targets.csv``, so that what the layout has no place
for (patients, splits, classes, values, the mask's own codes) comes back when they are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from medmtl.data.cases import SPLITS
from medmtl.data.cells import parse_class, parse_frame, parse_number
from medmtl.data.columns import Column
from medmtl.data.formats.labels import first_doubled
from medmtl.data.formats.tables import Table, TableRow, is_blank, read_table
from medmtl.data.problems import Problems
from medmtl.data.schema import parse_schema
from medmtl.types import CaseError, DatasetError

FILE = "dataset.json"
TARGETS = "targets.csv"
KEY = "medmtl"
TARGET_KEYS = ("case", "source_case", "patient", "split", "frame")
"""The columns of ``targets.csv`` before the classes and values."""

_MODALITIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "CT": ("ct", "cbct"),
        "PT": ("pet", "pt", "suv", "fdg"),
        "MR": ("mr", "mri", "t1", "t2", "flair", "adc", "dwi", "pd", "swi", "cine", "lge", "bold", "mp2rage"),
    }
)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DatasetError: there is no such file, it is not JSON, or not an object; names the line.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason = "there is no such file" if not path.exists() else error.strerror
        raise DatasetError(f"{path}: cannot be read ({reason})") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: is not JSON, line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise DatasetError(f"{path}: is nested too deeply to be a description") from error
    if not isinstance(data, dict):
        raise DatasetError(f"{path}: holds a {type(data).__name__}; it has to be an object of `name: value`")
    return data


def section(data: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    """A key that has to hold an object that is not empty.

    Raises:
        DatasetError: it does not.
    """
    value = data.get(key)
    if not isinstance(value, dict) or not value:
        raise DatasetError(f"{path}, {key!r}: found {value!r:.80}; it has to be an object of `name: value`")
    return value


def channel_names(data: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    """The channels of ``{"0": "T2", "1": "ADC"}`` in their order, as names that may stand in file names.

    Raises:
        DatasetError: the numbers are not 0, 1, ... or a name is no text.
    """
    channels = section(data, key, path)
    wanted = [str(number) for number in range(len(channels))]
    if sorted(channels) != sorted(wanted):
        raise DatasetError(
            f"{path}, {key!r}: found the channels {', '.join(map(repr, channels))}; number them 0, 1, ..."
        )
    names = [channels[number] for number in wanted]
    if not all(isinstance(name, str) for name in names):
        raise DatasetError(f"{path}, {key!r}: a channel's name has to be text")
    safe = [safe_name(name) for name in names]
    if first_doubled(safe) is not None:
        safe = [f"{name}_{number}" for number, name in enumerate(safe)]
    return tuple(safe)


def safe_name(name: str) -> str:
    """A name that may stand in a file name and in a column."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name.strip()).strip("_.-") or "image"


def modality_of(channels: tuple[str, ...]) -> str:
    """DICOM modality that names of channels speak of, ``OT`` (other) where they say nothing."""
    words = {word for name in channels for word in re.findall(r"[a-z]+\d?", name.lower())}
    return next((code for code, known in _MODALITIES.items() if words & set(known)), "OT")


def text_of(data: Mapping[str, Any], *keys: str) -> str:
    """The first of some keys that holds text."""
    return next(
        (value for key in keys if isinstance(value := data.get(key), str) and value.strip()), ""
    ).strip()


@dataclass(frozen=True)
class Targets:
    """What medmtl's exports say besides the layout itself.

    Attributes:
        mask: name of the mask column.
        labels: the dataset's own code of each structure; empty where the layout's values are kept.
        modality: DICOM modality, or blank.
        channels: names of the channels, or none.
        columns: category and value columns.
        rows: the rows of ``targets.csv`` by case.
    """

    mask: str = "segmentation"
    labels: Mapping[str, int] = field(default_factory=dict)
    modality: str = ""
    channels: tuple[str, ...] = ()
    columns: Mapping[str, Column] = field(default_factory=dict)
    rows: Mapping[str, TableRow] = field(default_factory=dict)

    def of(self, case_id: str) -> tuple[str, str, dict[str, float | str]]:
        """Patient (the case itself where unknown), split (or blank) and values of a case.

        Raises:
            CaseError: ``LABEL_VALUES``: a cell that is no class, number or split; names row and column.
        """
        row = self.rows.get(case_id)
        if row is None:
            return case_id, "", {}
        values = parse_values(row, self.columns, TARGETS)
        _, _, split = frames_and_split(row, TARGETS)
        return row.cells.get("patient") or case_id, split, values


def parse_values(row: TableRow, columns: Mapping[str, Column], file: str) -> dict[str, float | str]:
    """The categories and values of a row; a blank cell is not labelled.

    Raises:
        CaseError: ``LABEL_VALUES``, naming row and column.
    """
    values: dict[str, float | str] = {}
    for name, column in columns.items():
        text = row.cells.get(name, "")
        if not text or column.kind not in ("category", "value"):
            continue
        try:
            values[name] = (
                parse_class(text, column.classes) if column.kind == "category" else parse_number(text)
            )
        except ValueError as error:
            raise CaseError("LABEL_VALUES", f"{file}, row {row.number}, column {name!r}: {error}") from error
    return values


def frames_and_split(row: TableRow, file: str) -> tuple[int | None, int | None, str]:
    """``frame_ed``, ``frame_es`` and ``split`` of a row, where it has them.

    Raises:
        CaseError: ``LABEL_VALUES``, naming row and column.
    """
    frames: dict[str, int] = {}
    split = ""
    for name in ("frame_ed", "frame_es", "split"):
        text = row.cells.get(name, "")
        if is_blank(text):
            continue
        try:
            if name == "split":
                split = parse_class(text, SPLITS, "splits")
            else:
                frames[name] = parse_frame(text)
        except ValueError as error:
            raise CaseError("LABEL_VALUES", f"{file}, row {row.number}, column {name!r}: {error}") from error
    return frames.get("frame_ed"), frames.get("frame_es"), split


def read_targets(root: Path, data: Mapping[str, Any]) -> Targets:
    """What an export of medmtl says besides its layout; nothing where somebody else wrote it.

    Raises:
        DatasetError: the key ``medmtl`` or ``targets.csv`` cannot be used.
    """
    if KEY not in data:
        return Targets()
    block = section(data, KEY, root / FILE)
    problems = Problems(root)
    channels = block.get("channels", ["image"])
    sections = {"name": root.name, "channels": channels, "columns": block.get("columns", {})}
    schema = parse_schema(
        {"medmtl_dataset": 1, "modality": block.get("modality", ""), **sections}, problems, f"{FILE}, {KEY}"
    )
    problems.raise_if_any()
    masks = [column for column in schema.columns.values() if column.kind == "mask"]
    if len(masks) != 1:
        raise DatasetError(f"{root / FILE}, {KEY!r}: found {len(masks)} mask columns; an export has one")
    columns = {name: column for name, column in schema.columns.items() if column.kind != "mask"}
    table: Table | None = read_table(root / TARGETS) if (root / TARGETS).is_file() else None
    rows = table.by("case") if table is not None else {}
    return Targets(masks[0].name, masks[0].labels, schema.modality, schema.channels, columns, rows)
