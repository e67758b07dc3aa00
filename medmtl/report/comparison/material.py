"""What a comparison's folder holds, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.report.read import read_mapping, read_table
from medmtl.types import OutputError

if TYPE_CHECKING:
    from pandas import DataFrame

MARK = "comparison.yaml"
SINGLE = "single-task"


@dataclass(frozen=True)
class ComparisonMaterial:
    """Everything that the report of a comparison is drawn from.

    Attributes:
        folder: the comparison's folder.
        description: content of `comparison.yaml`.
        summary: content of `summary.json`.
        table: `compare.csv`, a row per method and seed.
    """

    folder: Path
    description: Mapping[str, Any]
    summary: Mapping[str, Any]
    table: DataFrame
    _logs: dict[Path, DataFrame | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def metrics(self) -> Mapping[str, str]:
        """The metric of each task that delta-m is made of."""
        found: Mapping[str, str] = self.summary["metrics"]
        return found

    @property
    def seeds(self) -> Sequence[int]:
        """Seeds of every method."""
        found: Sequence[int] = self.summary["seeds"]
        return found

    @property
    def methods(self) -> Sequence[str]:
        """Names of the weightings, in the order in which they were named; colours follow it."""
        return list(self.description["methods"])

    def mean(self, method: str) -> float | None:
        """Mean delta-m of a method, None where it is not known."""
        found: float | None = self.summary["methods"][method]["delta_m_percent"]["mean"]
        return found

    def ranked(self) -> list[str]:
        """The weightings from the best delta-m to the worst, without those that have none."""
        known = {name: mean for name in self.methods if (mean := self.mean(name)) is not None}
        return sorted(known, key=known.__getitem__)

    def best_first(self) -> list[str]:
        """All weightings, those without a delta-m last."""
        return [*self.ranked(), *(name for name in self.methods if self.mean(name) is None)]

    def run(self, method: str, seed: int) -> Path:
        """RUN folder of a method."""
        return self.place(method, seed) / "run"

    def place(self, method: str, seed: int) -> Path:
        """Folder of a method's training, in which its run, evaluation and embedding lie."""
        return self.folder / "runs" / str(self.description["folders"][method]) / f"seed{seed}"

    def single_run(self, task: str, seed: int) -> Path:
        """RUN folder of the network that learns one task alone."""
        return self.folder / "runs" / SINGLE / task / f"seed{seed}" / "run"

    def log(self, run: Path) -> DataFrame | None:
        """`metrics.csv` of a RUN folder, which several panels draw from, read once."""
        if run not in self._logs:
            self._logs[run] = read_table(run / "metrics.csv")
        return self._logs[run]

    def done(self, method: str) -> list[int]:
        """Seeds for which a method was trained to the end."""
        rows = self.table[(self.table["method"] == method) & (self.table["status"] == "ok")]
        return [int(seed) for seed in rows["seed"]]


def gather_comparison(folder: Path) -> ComparisonMaterial:
    """Read a comparison's folder.

    Raises:
        OutputError: a file is missing, because the comparison was stopped, or cannot be read.
    """
    description, summary = read_mapping(folder / MARK), read_mapping(folder / "summary.json")
    table = read_table(folder / "compare.csv")
    if not description or not summary or table is None:
        raise OutputError(
            f"{folder}: the comparison is not finished; call the same `medmtl compare` again, and it goes on "
            "where it was"
        )
    return ComparisonMaterial(folder, description, summary, table)
