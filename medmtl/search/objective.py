"""What a search maximizes: the geometric mean of one validation metric per task.

Source: Leang et al., ITSC 2020, whose target is the geometric mean of the tasks' metrics. Unlike a sum, it
does not care for units, and a task that is neglected cannot be paid for by another.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medmtl.data.dataset import Column, Dataset
from medmtl.engine import Job
from medmtl.evaluation.comparison.directions import higher_is_better
from medmtl.registry import nearest
from medmtl.tasks import build_task
from medmtl.types import ConfigError

SCORE = "score"
"""Every task's own validation score, 0 to 1: Dice, balanced accuracy, share of variance explained."""
NONE = "none"
LEAST = 1e-3
"""A metric below counts as this much, so that one task at 0 does not hide what the others do."""


class NoValueError(Exception):
    """A metric that a trial should have is blank or not a number."""


@dataclass(frozen=True)
class Objective:
    """One metric per task.

    Args:
        metrics: by task, a metric of its validation, as `metrics.csv` has it after ``val.<task>.``.
    """

    metrics: Mapping[str, str]

    def values(self, row: Mapping[str, str], where: str = "metrics.csv") -> dict[str, float]:
        """The metrics ``<task>.<metric>`` of one row of `metrics.csv`.

        Raises:
            ConfigError: there is no such metric.
            NoValueError: it has no finite value.
        """
        found = {}
        for task, metric in self.metrics.items():
            column = f"val.{task}.{metric}"
            if column not in row:
                known = [name.removeprefix(f"val.{task}.") for name in row if name.startswith(f"val.{task}.")]
                raise ConfigError(
                    f"--metric: {where} has no {metric!r} of task {task!r}{nearest(metric, known)}"
                )
            value = float(row[column]) if row[column] else math.nan
            if not math.isfinite(value):
                raise NoValueError(f"task {task!r} has no value of {metric!r}")
            found[f"{task}.{metric}"] = value
        return found

    def __call__(self, values: Mapping[str, float]) -> float:
        """The geometric mean; of a metric that is better when lower, its inverse takes part.

        Args:
            values: ``<task>.<metric>``, each 0 or greater.
        """
        logs = [
            math.log(max(value, LEAST)) * (1 if _rises(name.partition(".")[2]) else -1)
            for name, value in values.items()
        ]
        return math.exp(sum(logs) / len(logs))


def choose_objective(job: Job, asked: Sequence[str] = ()) -> tuple[Objective, list[str]]:
    """The metric of every task that has validation labels, and notes on those that have none.

    Args:
        job: whose tasks and dataset are looked at.
        asked: ``task=metric``; ``none`` leaves a task out.

    Raises:
        ConfigError: an unknown task, a metric without a direction, no validation case, or no task is left.
    """
    pairs = _pairs(asked, list(job.tasks))
    if not job.dataset.select("val"):
        raise ConfigError(
            f"{job.dataset.root / 'cases.csv'}: no case has split = val, so trials cannot be judged; "
            "fill the split column, or set fold"
        )
    metrics, notes = {}, []
    for name, section in job.tasks.items():
        metric = pairs.get(name, SCORE)
        if metric == NONE:
            continue
        _rises(metric)
        targets = build_task(name, section, job.dataset.columns).targets
        if any(_has_labels(job.dataset, job.dataset.columns[target]) for target in targets):
            metrics[name] = metric
        elif name in pairs:
            raise ConfigError(f"--metric: no validation case is labelled for task {name!r}")
        else:
            notes.append(f"task {name!r} takes no part in the objective: no validation case is labelled")
    if not metrics:
        raise ConfigError(
            "no task is left to judge trials by; label validation cases, or give one a --metric"
        )
    return Objective(metrics), notes


def kept_row(run: Path, kept: str) -> dict[str, Any]:
    """The row of `metrics.csv` that belongs to the weights that a run kept.

    Args:
        run: RUN folder.
        kept: ``epoch N`` or ``last``, as the model's metadata say.
    """
    rows = epoch_rows(run)
    epoch = kept.removeprefix("epoch ")
    return next((row for row in rows if row["epoch"] == epoch), rows[-1])


def epoch_rows(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's `metrics.csv`, none where there is none yet."""
    path = run / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _rises(metric: str) -> bool:
    return metric == SCORE or higher_is_better(metric)


def _pairs(asked: Sequence[str], tasks: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in asked:
        task, separator, metric = text.partition("=")
        if not (separator and task and metric):
            raise ConfigError(f"--metric {text}: write task=metric, such as anatomy=dice.LV")
        if task not in tasks:
            raise ConfigError(f"--metric: there is no task {task!r}{nearest(task, list(tasks))}")
        if task in pairs:
            raise ConfigError(f"--metric: task {task!r} is given twice; the objective takes one metric each")
        pairs[task] = metric
    return pairs


def _has_labels(dataset: Dataset, column: Column) -> bool:
    mask = None if column.derived is None else column.derived.mask
    return any(
        column.name in case.files or column.name in case.values or mask in case.files
        for case in dataset.select("val")
    )
