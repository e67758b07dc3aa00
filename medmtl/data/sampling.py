"""Which cases a pass through the data sees: each once, or those with rare labels more often."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Generator

from medmtl.data.prepare import PreparedCase

Sampling = Literal["uniform", "labels"]


def case_weights(cases: Sequence[PreparedCase], columns: Iterable[str]) -> list[float]:
    """How often each case is seen against the others, so that rare labels are seen as often as common ones.

    A label column that n of N cases have makes these N/n times as frequent; of several, a case's rarest label
    counts. Where every case has every label, all are equal.

    Args:
        cases: N prepared cases.
        columns: label columns that tasks learn from.
    """
    weights = [1.0] * len(cases)
    for name in columns:
        having = [
            i for i, case in enumerate(cases) if any(case.labelled.get(name, ())) or name in case.values
        ]
        for i in having:
            weights[i] = max(weights[i], len(cases) / len(having))
    return weights


def one_pass(weights: Sequence[float], generator: Generator) -> list[int]:
    """N places of cases, shuffled; each case as often as its share of the weights says, rounded up or down.

    Systematic resampling: equal weights give every case exactly once.

    Args:
        weights: of N cases, above 0.
        generator: of the shuffle, and of where counting starts.
    """
    n = len(weights)
    shuffled = torch.randperm(n, generator=generator)
    if len(set(weights)) == 1:
        return shuffled.tolist()
    ends = torch.tensor(weights, dtype=torch.float64)[shuffled].cumsum(0)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    ticks = (torch.arange(n, dtype=torch.float64) + start) / n * ends[-1]
    drawn = shuffled[torch.searchsorted(ends, ticks, right=True).clamp(max=n - 1)]
    return drawn[torch.randperm(n, generator=generator)].tolist()
