"""One training of a comparison: its folder, and the file that says that it is finished."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.files import write_text
from medmtl.types import OutputError

if TYPE_CHECKING:
    from pandas import DataFrame

FILE = "result.json"


@dataclass(frozen=True)
class Place:
    """Where one training of a comparison lies: ``run/``, ``evaluation/``, ``result.json``.

    Attributes:
        folder: that holds them.
    """

    folder: Path

    @property
    def run(self) -> Path:
        """The RUN folder."""
        return self.folder / "run"

    @property
    def evaluation(self) -> Path:
        """The EVALUATION folder."""
        return self.folder / "evaluation"

    @property
    def predictions(self) -> Path:
        """The PREDICTIONS folder."""
        return self.evaluation / "predictions"

    @property
    def embedding(self) -> Path:
        """Table of what the encoder makes of every case."""
        return self.folder / "embedding.csv"

    def cases(self) -> DataFrame:
        """The evaluation's table, a row per case and frame."""
        import pandas as pd

        return pd.read_csv(self.evaluation / "cases.csv", dtype={"case_id": str, "frame": str})


@dataclass(frozen=True)
class Record:
    """What one finished training did.

    Attributes:
        status: ``ok``, or ``failed`` where the method could not be trained.
        message: why not.
        seconds: of the training, validation included.
        seconds_per_step: of training steps alone.
        peak_memory_mib: see `Meter`.
        steps: that were taken; early stopping takes fewer than the budget.
        kept: which weights became the model.
        values: every metric, ``<task>.<metric>``.
        counts: how many cases each rests on.
        refused: cases that could not be used, in training or in prediction.
    """

    status: str
    message: str = ""
    seconds: float = math.nan
    seconds_per_step: float = math.nan
    peak_memory_mib: float = math.nan
    steps: int = 0
    kept: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is a model."""
        return self.status == "ok"

    def of_tasks(self, metrics: Mapping[str, str]) -> dict[str, float]:
        """The one metric of each task."""
        return {task: self.values.get(f"{task}.{name}", math.nan) for task, name in metrics.items()}


def read_record(place: Place) -> Record | None:
    """The record of a finished training, None where it is not finished.

    Raises:
        OutputError: the file is damaged.
    """
    path = place.folder / FILE
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known: dict[str, Any] = {key: math.nan if value is None else value for key, value in found.items()}
        return Record(**known)
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError) as error:
        raise OutputError(
            f"{path}: is damaged ({error}); remove it, and this run is evaluated anew"
        ) from error


def write_record(place: Place, record: Record) -> None:
    """Write the record, which makes the training finished; what is not a number is null."""
    data = asdict(record)
    for key, value in data.items():
        if isinstance(value, float) and not math.isfinite(value):
            data[key] = None
    write_text(place.folder / FILE, json.dumps(data, indent=2, allow_nan=False) + "\n")
