"""Equal weights.

Formula: total = sum_i L_i. Source: the baseline of every paper on task weighting.
When: first, always; the reference for every other method. Costs nothing.
Fails: the task with the largest loss or gradient decides what is learned; units matter.
"""

from __future__ import annotations

from collections.abc import Sequence

from medmtl.weighting._checks import check_tasks
from medmtl.weighting._normalizers import NoNormalizer
from medmtl.weighting._raw import Constant
from medmtl.weighting._raw_normalized import RawNormalized
from medmtl.weighting._registry import WEIGHTINGS


@WEIGHTINGS.register("ew")
class EqualWeights(RawNormalized):
    """Every weight is 1, so the gradient is the sum of the tasks' gradients.

    Args:
        tasks: names of the K tasks.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        names = check_tasks(tasks)
        super().__init__(names, raw=Constant([1.0] * len(names)), normalizer=NoNormalizer())
