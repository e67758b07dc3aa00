"""What an evaluation keeps: rows per case and frame, what is missing and why, metrics with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medmtl.metrics import Interval, bootstrap_interval
from medmtl.metrics.estimate import NO_INTERVAL

Row = dict[str, Any]
Entry = dict[str, float | int | str | None]
Metrics = dict[str, dict[str, Entry]]


@dataclass(frozen=True)
class Missing:
    """Something that should have been scored and was not.

    Attributes:
        case_id: the case.
        task: the task, or "" when the whole case is missing.
        status: ``missing`` (not predicted), ``refused`` or ``failed`` (as predict says),
            ``error`` (found here).
        code: finding code, where there is one.
        message: what is missing and where.
    """

    case_id: str
    task: str
    status: str
    code: str
    message: str


@dataclass
class CaseRecord:
    """Everything that is known about one case.

    Attributes:
        case_id: the case.
        row: cells of the case-level row.
        frames: cells of the row of each frame, by its name ``ED``, ``ES`` or its index.
        measured: values measured on the predicted masks, by task and name; ``nan`` where that was not
            possible.
        missing: what could not be scored.
        notes: what a reader should know, without the case's name.
    """

    case_id: str
    row: Row = field(default_factory=dict)
    frames: dict[str, Row] = field(default_factory=dict)
    measured: dict[tuple[str, str], float] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def entry(value: float, ci: Interval = NO_INTERVAL, n: int = 0, unit: str = "") -> Entry:
    """One metric of ``metrics.json``; what is undefined is null."""
    return {
        "value": _number(value),
        "ci_low": _number(ci.low),
        "ci_high": _number(ci.high),
        "n": int(n),
        "unit": unit,
    }


def mean_entry(values: Sequence[float], unit: str, seed: int) -> Entry:
    """Mean over the cases that have a value, with its bootstrap interval over cases."""
    kept = np.asarray([value for value in values if not math.isnan(value)], dtype=np.float64)
    if not len(kept):
        return entry(math.nan, unit=unit)
    return entry(float(kept.mean()), bootstrap_interval(np.mean, kept, seed=seed), len(kept), unit)


def bootstrapped(
    statistic: Callable[..., float], *arrays: ArrayLike, unit: str = "", seed: int = 0, n: int
) -> Entry:
    """A statistic over cases with its bootstrap interval; null without cases."""
    if n == 0:
        return entry(math.nan, unit=unit)
    return entry(float(statistic(*arrays)), bootstrap_interval(statistic, *arrays, seed=seed), n, unit)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
