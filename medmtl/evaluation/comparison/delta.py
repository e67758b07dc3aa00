"""Delta-m: how much better or worse than networks that learn one task each."""

from __future__ import annotations

import math
from collections.abc import Mapping

from medmtl.evaluation.comparison.directions import higher_is_better


def change_percent(value: float, single: float, *, higher_is_better: bool) -> float:
    """Relative change of one metric against a single-task network, in percent; negative is better.

    Args:
        value: what the network with several tasks reached.
        single: what the network with this task alone reached.
        higher_is_better: direction of the metric.

    Returns:
        ``nan`` where either is not known, or the single-task value is 0.
    """
    if not (math.isfinite(value) and math.isfinite(single)) or single == 0:
        return math.nan
    change = 100 * (value - single) / abs(single)
    return -change if higher_is_better else change


def changes_percent(
    found: Mapping[str, float], single: Mapping[str, float], metrics: Mapping[str, str]
) -> dict[str, float]:
    """`change_percent` of every task, for the metric that stands for it."""
    return {
        task: change_percent(
            found.get(task, math.nan), single.get(task, math.nan), higher_is_better=higher_is_better(metric)
        )
        for task, metric in metrics.items()
    }


def delta_m_percent(
    found: Mapping[str, float], single: Mapping[str, float], metrics: Mapping[str, str]
) -> float:
    """Mean over tasks of the relative change against single-task networks; negative is better.

    Formula: delta-m = 100/K sum_k (-1)^(l_k) (M_k - S_k) / S_k, where l_k is 1 if more of metric k is better.
    Source: Maninis et al., CVPR 2019, with the sign of Kirchdorfer et al., GCPR 2024.

    Args:
        found: the metric of each task.
        single: the same of the single-task networks.
        metrics: name of each task's metric.

    Returns:
        ``nan`` where any task has no change.

    Example:
        >>> metrics = {"anatomy": "dice", "function": "mae.LV_EF"}
        >>> single = {"anatomy": 0.80, "function": 5.0}
        >>> round(delta_m_percent({"anatomy": 0.84, "function": 4.5}, single, metrics), 6)
        -7.5
    """
    changes = changes_percent(found, single, metrics).values()
    return sum(changes) / len(changes) if changes else math.nan
