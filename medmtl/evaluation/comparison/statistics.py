"""Means, spreads and tests over seeds and cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
"""Level at which a difference is called one."""


@dataclass(frozen=True)
class Spread:
    """Mean and spread of a few numbers; ``nan`` where there are too few."""

    mean: float
    sd: float
    low: float
    high: float
    n: int


def spread(values: Sequence[float], confidence: float = 0.95) -> Spread:
    """Mean, standard deviation and Student's interval of the mean; what is not finite is left out."""
    from scipy.stats import t

    known = np.array([v for v in values if math.isfinite(v)], dtype=np.float64)
    n = len(known)
    if n == 0:
        return Spread(math.nan, math.nan, math.nan, math.nan, 0)
    mean = float(known.mean())
    if n == 1:
        return Spread(mean, math.nan, math.nan, math.nan, 1)
    sd = float(known.std(ddof=1))
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)
    return Spread(mean, sd, mean - half, mean + half, n)


@dataclass(frozen=True)
class PairedTest:
    """A paired test of a method against the reference.

    Attributes:
        method: that is tested.
        task: on which; "" for delta-m over all tasks.
        name: of the test.
        n: pairs.
        difference: mean of method minus reference; of case scores positive is better, of delta-m negative.
        p: two-sided, ``nan`` where there are too few pairs to say anything.
        holm: the same, corrected for all tests of the table (Holm 1979).
        remark: why there is no p, or what it cannot say.
    """

    method: str
    task: str
    name: str
    n: int
    difference: float
    p: float = math.nan
    holm: float = math.nan
    remark: str = ""


WILCOXON = "Wilcoxon signed-rank over cases"
STUDENT = "paired t over seeds"


def signed_rank(method: str, task: str, difference: NDArray[np.float64], family: int) -> PairedTest:
    """Wilcoxon's signed-rank test of the differences of cases, each the mean over seeds.

    Cases are the unit: runs of several seeds see the same cases, and to count every seed of a case as a case
    of its own would make differences look surer than they are. Source: Wilcoxon 1945.

    Args:
        method: that is tested.
        task: on which.
        difference: ``(n,)`` method minus reference.
        family: number of tests in the table, which the p-value will be corrected for.
    """
    from scipy.stats import wilcoxon

    n = len(difference)
    mean = float(difference.mean()) if n else math.nan
    differ = int(np.count_nonzero(difference))
    if n and not differ:
        return PairedTest(method, task, WILCOXON, n, mean, 1.0, remark="no case differs")
    smallest = 2.0 ** (1 - differ) * family if differ else math.inf
    if smallest > ALPHA:
        return PairedTest(
            method, task, WILCOXON, n, mean,
            remark=f"too few cases for {family} tests ({differ} differ)",
        )  # fmt: skip
    p = float(wilcoxon(difference, zero_method="wilcox").pvalue)
    return PairedTest(method, task, WILCOXON, n, mean, p)


def over_seeds(method: str, difference: NDArray[np.float64]) -> PairedTest:
    """Student's paired test of delta-m over seeds; with fewer than 3 nothing is said."""
    from scipy.stats import ttest_1samp

    n = len(difference)
    mean = float(difference.mean()) if n else math.nan
    if n < 3:
        return PairedTest(method, "", STUDENT, n, mean, remark=f"too few seeds ({n}; at least 3)")
    if np.ptp(difference) == 0:
        return PairedTest(method, "", STUDENT, n, mean, remark="the difference is the same for every seed")
    return PairedTest(method, "", STUDENT, n, mean, float(ttest_1samp(difference, 0.0).pvalue))


def corrected(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """The tests with p-values corrected after Holm (1979); those without a p-value do not count."""
    known = sorted((i for i, test in enumerate(tests) if not math.isnan(test.p)), key=lambda i: tests[i].p)
    result, largest = list(tests), 0.0
    for rank, index in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * tests[index].p))
        result[index] = replace(tests[index], holm=largest)
    return result


def mean_ranks(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean rank of each method, 1 the best; equal values share a rank.

    Args:
        values: by method, one number per place of comparison (task and seed), lower is better; ``nan`` where
            a method was not there, which then takes no rank in that place.
    """
    from scipy.stats import rankdata

    names = list(values)
    ranks: dict[str, list[float]] = {name: [] for name in names}
    for place in zip(*values.values(), strict=True):
        known = [(name, value) for name, value in zip(names, place, strict=True) if math.isfinite(value)]
        if len(known) < 2:
            continue
        for (name, _), rank in zip(known, rankdata([value for _, value in known]), strict=True):
            ranks[name].append(float(rank))
    return {name: sum(found) / len(found) if found else math.nan for name, found in ranks.items()}


def wins(values: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """In how many places a method was the best, lower is better.

    Equals win together; where all are equal, nobody wins.
    """
    names = list(values)
    counts = dict.fromkeys(names, 0)
    for place in zip(*values.values(), strict=True):
        known = [value for value in place if math.isfinite(value)]
        if len(known) < 2 or min(known) == max(known):
            continue
        for name, value in zip(names, place, strict=True):
            counts[name] += value == min(known)
    return counts
