"""Confidence intervals: the bootstrap over cases, and Wilson's interval for a proportion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medmtl.metrics.estimate import NO_INTERVAL, Interval


def bootstrap_interval(
    statistic: Callable[..., float],
    *arrays: ArrayLike,
    n: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic; cases are drawn together, with replacement.

    Args:
        statistic: function of as many arrays as are given, to one number.
        arrays: arrays whose first axis is the case.
        n: number of resamples.
        confidence: coverage wanted, 0 to 1.
        seed: seed of the draws; the same seed gives the same interval.

    Returns:
        Its ends in the statistic's unit. A resample on which the statistic is ``nan`` (such as an AUC without
        one of the classes) is left out. ``nan`` ends when there are fewer than two cases or no resample is
        defined.

    Raises:
        ValueError: arrays of different lengths, or arguments out of range.

    Source: Efron and Tibshirani 1993, chapter 13.
    """
    if not arrays or n < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"need an array, n >= 1 and 0 < confidence < 1; found {len(arrays)}, {n}, {confidence}"
        )
    columns: list[np.ndarray[Any, Any]] = [np.asarray(array) for array in arrays]
    n_cases = len(columns[0])
    if any(len(column) != n_cases for column in columns):
        raise ValueError(f"arrays must have one length, found {[len(column) for column in columns]}")
    if n_cases < 2:
        return NO_INTERVAL
    generator = np.random.default_rng(seed)
    values = np.empty(n)
    for index in range(n):
        drawn = generator.integers(0, n_cases, n_cases)
        values[index] = statistic(*(column[drawn] for column in columns))
    values = values[~np.isnan(values)]
    if not len(values):
        return NO_INTERVAL
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return Interval(float(low), float(high))


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion, such as an accuracy; it stays inside 0 to 1, at 0 and n too.

    Args:
        successes: number of right cases.
        n: number of cases.
        confidence: coverage wanted, 0 to 1.

    Returns:
        Ends of the interval, 0 to 1; ``nan`` ends when ``n`` is 0.

    Raises:
        ValueError: ``successes`` is not within 0 to ``n``.

    Source: Wilson, JASA 1927.
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= n:
        raise ValueError(f"successes must be within 0 to n, found {successes} of {n}")
    if n == 0:
        return NO_INTERVAL
    interval = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(max(0.0, float(interval.low)), min(1.0, float(interval.high)))
