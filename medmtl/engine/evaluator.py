"""Validation while training: prepared cases, dealt to the ranks; rank 0 judges, so that all decide alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from medmtl.data.prepare import PreparedCase
from medmtl.engine.exchange import from_first, gathered
from medmtl.engine.ranks import rank, world_size
from medmtl.inference.predictor import Context, predict_prepared
from medmtl.tasks import CaseResult, Task

Metrics = dict[str, dict[str, float]]


def validate(context: Context, cases: Sequence[PreparedCase]) -> Metrics:
    """Metrics of every task that had labels; empty without cases. The same on every rank, and as on one.

    Args:
        context: the network to judge, in evaluation mode, and its tasks.
        cases: all validation cases, in the same order on every rank.
    """
    if not cases:
        return {}
    own = cases[rank() :: world_size()]
    names = tuple(context.tasks)
    results = [predict_prepared(context, case, names, on_source_grid=False) for case in own]
    if world_size() == 1:
        return judge(context.tasks, results, cases)
    told = gathered({"results": [_as_tree(result) for result in results]})
    metrics: Metrics = from_first(
        lambda: {"metrics": judge(context.tasks, _in_order(told, len(cases)), cases)}
    )["metrics"]
    return metrics


def judge(tasks: Mapping[str, Task], results: Sequence[CaseResult], cases: Sequence[PreparedCase]) -> Metrics:
    """What every task says of the results of all cases."""
    found = {name: task.validate(results, cases) for name, task in tasks.items()}
    return {name: dict(metrics) for name, metrics in found.items() if metrics}


def overall_score(metrics: Metrics) -> float:
    """Mean of the tasks' scores, 0..1; NaN without any."""
    scores = [found["score"] for found in metrics.values() if "score" in found]
    return sum(scores) / len(scores) if scores else float("nan")


def _as_tree(result: CaseResult) -> dict[str, Any]:
    dense = {name: torch.from_numpy(np.ascontiguousarray(volume)) for name, volume in result.dense.items()}
    return {"dense": dense, "values": result.values}


def _in_order(told: Sequence[Mapping[str, Any]], n_cases: int) -> list[CaseResult]:
    """The results that the ranks told, each of every so many-th case, in the cases' order."""
    found = []
    for index in range(n_cases):
        tree = told[index % len(told)]["results"][index // len(told)]
        dense = {name: volume.numpy() for name, volume in tree["dense"].items()}
        found.append(CaseResult(dense=dense, values=tree["values"]))
    return found
