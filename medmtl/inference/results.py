"""A PREDICTIONS folder as a table, and what is known of a finished one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.files import write_text
from medmtl.inference.journal import Journal
from medmtl.inference.outcome import BASE_COLUMNS
from medmtl.types import Finding

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class PredictionRun:
    """A finished PREDICTIONS folder.

    Attributes:
        folder: where it is.
        table: what `predictions.csv` holds.
        outputs: what `outputs.yaml` says of each task.
        findings: why studies were refused or failed.
        images: first image channel of each case that is a NIfTI file.
        done: how many studies this call computed.
    """

    folder: Path
    table: pd.DataFrame
    outputs: dict[str, dict[str, Any]]
    findings: list[Finding]
    images: dict[str, Path] = field(default_factory=dict)
    done: int = 0


def as_table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows with all columns that any of them has, in order."""
    import pandas as pd

    rows = list(rows)
    header: dict[str, None] = dict.fromkeys(BASE_COLUMNS)
    for row in rows:
        header.update(dict.fromkeys(row))
    return pd.DataFrame(rows, columns=list(header))


def write_table(journal: Journal, output: Path) -> None:
    """(Re)make ``predictions.csv`` from the journal, whole or not at all."""
    write_text(output / "predictions.csv", as_table(journal.rows()).to_csv(index=False))
