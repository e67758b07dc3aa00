"""The files of an EVALUATION folder, each written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.evaluation.record import CaseRecord
from medmtl.files import write_text
from medmtl.types import OutputError

if TYPE_CHECKING:
    from pandas import DataFrame

METRICS_FILE = "metrics.json"
CASES_FILE = "cases.csv"
EVALUATION_FILE = "evaluation.yaml"
LEADING = ("case_id", "frame", "status", "message")


def cases_table(records: Sequence[CaseRecord], tasks: Sequence[str]) -> DataFrame:
    """A row per case (blank ``frame``) followed by one per frame; columns in the order of the tasks."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for record in records:
        rows.append({"case_id": record.case_id, "frame": "", **record.row})
        rows += [{"case_id": record.case_id, "frame": name, **cells} for name, cells in record.frames.items()]
    found = list(dict.fromkeys(key for row in rows for key in row))
    ordered = [key for task in tasks for key in found if key.startswith(f"{task}.")]
    return pd.DataFrame(rows, columns=list(dict.fromkeys([*LEADING, *ordered])))


def prepare_folder(output: Path) -> None:
    """Makes the output folder.

    Raises:
        OutputError: something that is no folder is in the way, or the folder cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {output} ({error}); choose another output") from error


def write_evaluation(
    output: Path, metrics: Mapping[str, Any], cases: DataFrame, description: Mapping[str, Any]
) -> None:
    """Writes ``metrics.json``, ``cases.csv`` and ``evaluation.yaml``, which tells that all are there."""
    import yaml

    write_text(output / METRICS_FILE, json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    write_text(output / CASES_FILE, cases.to_csv(index=False, lineterminator="\n"))
    write_text(
        output / EVALUATION_FILE, yaml.safe_dump(dict(description), sort_keys=False, allow_unicode=True)
    )
