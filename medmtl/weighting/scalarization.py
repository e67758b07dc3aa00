"""Fixed weights, given.

Formula: total = sum_i w_i L_i with constant w. Source: linear scalarization; Xin et al., "Do current
multi-task optimization methods in deep learning even help?", NeurIPS 2022, find a searched scalarization
hard to beat.
When: weights are known from a search (``medmtl search --method grid``) or from the study's purpose. Costs
nothing.
Fails: a grid over K tasks grows with a power of K; weights found for one learning rate or dataset do not
carry over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medmtl.weighting._checks import check_tasks, per_task
from medmtl.weighting._normalizers import NoNormalizer
from medmtl.weighting._raw import Constant
from medmtl.weighting._raw_normalized import RawNormalized
from medmtl.weighting._registry import WEIGHTINGS


@WEIGHTINGS.register("scalarization")
class Scalarization(RawNormalized):
    """Exactly the weights given, whichever tasks are present.

    Args:
        tasks: names of the K tasks.
        weights: ``{task: weight >= 0}`` for every task; usually they sum to 1, but nothing rescales them.

    Raises:
        ConfigError: a task is missing or unknown, a weight is negative, or all are 0.
    """

    def __init__(self, tasks: Sequence[str], *, weights: Mapping[str, float]) -> None:
        names = check_tasks(tasks)
        super().__init__(names, raw=Constant(per_task("weights", weights, names)), normalizer=NoNormalizer())
