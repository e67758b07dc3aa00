"""What a layout for segmentation has no place for, as a table and a key that medmtl's reader knows."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medmtl.data.cases import number_text
from medmtl.data.columns import Column
from medmtl.data.dataset import Dataset
from medmtl.data.export.samples import Codes, Record
from medmtl.data.formats.description import TARGET_KEYS, TARGETS
from medmtl.data.schema import column_section
from medmtl.files import write_text


def target_columns(dataset: Dataset) -> list[Column]:
    """The categories and values; derived ones are numbers here, since their frames are no longer together."""
    columns = [column for column in dataset.columns.values() if column.kind in ("category", "value")]
    return [replace(column, derived=None) for column in columns]


def target_cells(dataset: Dataset) -> dict[str, dict[str, str]]:
    """The categories and values of every case, as text; what is not known is not there."""
    table = dataset.targets
    cells: dict[str, dict[str, str]] = {}
    for case in dataset.cases:
        row: Mapping[Any, Any] = table.loc[case.case_id].to_dict()
        cells[case.case_id] = {
            str(name): value if isinstance(value, str) else number_text(float(value))
            for name, value in row.items()
            if value is not None and (isinstance(value, str) or math.isfinite(value))
        }
    return cells


def write_targets(folder: Path, dataset: Dataset, records: Sequence[Record]) -> None:
    """Writes ``targets.csv``: a row per volume, with the patient, the split and the targets of its case."""
    cells = target_cells(dataset)
    names = [*TARGET_KEYS, *(column.name for column in target_columns(dataset))]
    with (folder / TARGETS).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        for record in records:
            case = record.case
            row = {"case": record.name, "source_case": case.case_id, "patient": case.patient}
            frame = "" if record.frame is None else str(record.frame)
            writer.writerow({**cells[case.case_id], **row, "split": record.split, "frame": frame})


def write_json(path: Path, data: object) -> None:
    """Writes a JSON file that people can read, too."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def channel_labels(dataset: Dataset) -> list[str]:
    """The channels as other programs know them: by CT they know that values are Hounsfield units."""
    return ["CT"] if dataset.modality == "CT" and len(dataset.channels) == 1 else list(dataset.channels)


def described(dataset: Dataset, codes: Codes) -> dict[str, Any]:
    """The key ``medmtl`` of ``dataset.json``: the mask with its own codes, and what the targets mean."""
    columns = [codes.column, *target_columns(dataset)]
    return {
        "modality": dataset.modality,
        "channels": list(dataset.channels),
        "columns": {column.name: column_section(column) for column in columns},
    }
