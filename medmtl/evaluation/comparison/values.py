"""Every metric of one evaluation as a flat table, and each case's own score."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medmtl.evaluation.comparison.directions import NMAE
from medmtl.tasks import Task

if TYPE_CHECKING:
    import pandas as pd


class Value(NamedTuple):
    """A metric and the number of cases that it rests on."""

    value: float
    n: int


def flat_values(
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]], cases: pd.DataFrame, tasks: Mapping[str, Task]
) -> dict[str, Value]:
    """``{"<task>.<metric>": value}`` of all that is defined, `NMAE` of regression tasks included.

    Args:
        metrics: what the evaluation found.
        cases: its table, a row per case and frame.
        tasks: that were evaluated.
    """
    found = {
        f"{task}.{name}": Value(float(entry["value"]), int(entry["n"]))
        for task, entries in metrics.items()
        for name, entry in entries.items()
        if entry["value"] is not None
    }
    for name, task in tasks.items():
        if task.kind == "regression":
            errors = _scaled_errors(cases, name, task.targets)
            if errors is not None and errors.notna().any(axis=None):
                mean = float(errors.mean(axis=0).mean())  # over cases, then over values
                found[f"{name}.{NMAE}"] = Value(mean, int(errors.notna().any(axis=1).sum()))
    return found


def case_scores(cases: pd.DataFrame, task: Task, metric: str) -> pd.Series[float] | None:
    """A score per case, higher is better, whose mean over cases is the metric or near to it.

    Of Dice and surface distances the case's mean over structures and frames; of values the negative absolute
    error; of classes 1 for a right one, 0 for a wrong one, or the true class's probability for ``auc``.

    Args:
        cases: the evaluation's table.
        task: whose metric it is.
        metric: its name.

    Returns:
        indexed by case_id, without cases that have no score; None where there is no such thing.
    """
    base, *rest = metric.split(".")
    if base in ("dice", "hd95"):
        return _of_masks(cases, task, base, rest)
    whole = _whole(cases)
    if task.kind == "classification":
        return _of_classes(whole, task, base)
    if task.kind == "dense_regression":
        column = f"{task.name}.{base}"
        scores = whole[column].dropna() if column in whole.columns else None
        return scores if scores is None or base == "r" else -scores
    names = rest or list(task.targets)
    errors = _scaled_errors(cases, task.name, names)
    return None if errors is None else -errors.mean(axis=1).dropna()


def _whole(cases: pd.DataFrame) -> pd.DataFrame:
    """The rows of cases, without those of single frames."""
    return cases[cases["frame"].isna() | (cases["frame"] == "")].set_index("case_id")


def _of_masks(cases: pd.DataFrame, task: Task, base: str, rest: Sequence[str]) -> pd.Series[float] | None:
    frames = cases[~(cases["frame"].isna() | (cases["frame"] == ""))]
    structure, phase = (*rest, "", "")[:2]
    if phase:
        frames = frames[frames["frame"] == phase]
    elif frames["frame"].isin(("ED", "ES")).any():
        frames = frames[frames["frame"].isin(("ED", "ES"))]
    start = f"{task.name}.{base}."
    known = [column for column in frames.columns if column.startswith(start)]
    columns = [column for column in known if structure in ("", column.removeprefix(start))]
    if not columns:
        return None
    scores = frames.set_index("case_id")[columns].mean(axis=1).groupby(level=0).mean().dropna()
    return -scores if base == "hd95" else scores


def _of_classes(whole: pd.DataFrame, task: Task, base: str) -> pd.Series[float] | None:
    if f"{task.name}.class" not in whole.columns:
        return None
    known = whole[whole[f"{task.name}.class"].notna() & whole[f"{task.name}.truth"].notna()]
    if base in ("auc", "ece"):
        true = [row[f"{task.name}.probability.{row[f'{task.name}.truth']}"] for _, row in known.iterrows()]
        return known.assign(score=true)["score"].astype(float)
    return (known[f"{task.name}.class"] == known[f"{task.name}.truth"]).astype(float)


def _scaled_errors(cases: pd.DataFrame, task: str, names: Sequence[str]) -> pd.DataFrame | None:
    """Absolute errors in standard deviations of the truth, a row per case and a column per value."""
    import pandas as pd

    whole = _whole(cases)
    found = {}
    for name in names:
        predicted, truth = _pair(whole, task, name)
        if predicted is None or truth is None:
            continue
        spread = float(np.nanstd(truth)) if np.isfinite(truth).any() else math.nan
        if spread > 0:
            found[name] = np.abs(predicted - truth) / spread
    return pd.DataFrame(found, index=whole.index) if found else None


def _pair(
    whole: pd.DataFrame, task: str, name: str
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Predicted and true value of every case; columns are ``<task>.<name> [unit]``."""

    def column(start: str) -> Iterator[str]:
        return (c for c in whole.columns if c == start or c.startswith(f"{start} ["))

    predicted, truth = next(column(f"{task}.{name}"), None), next(column(f"{task}.truth.{name}"), None)
    if predicted is None or truth is None:
        return None, None
    return whole[predicted].to_numpy(dtype=np.float64), whole[truth].to_numpy(dtype=np.float64)
