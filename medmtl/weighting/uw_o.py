"""Optimal uncertainty weights, without the softmax: inverse losses.

Formula: w_i = gamma_i / L_i, stop-gradient, so w_i L_i = gamma_i on every step and the gradient is that of
sum_i gamma_i log L_i. Source: Kirchdorfer et al., "Analytical uncertainty-based loss weighting in multi-task
learning", GCPR 2024, the analytical optimum of Kendall's weights (UW-O).
When: losses have unlike units or sizes and nothing may be tuned; it is scale-free and has no parameter.
Costs: one division per task.
Fails: a loss that gets near 0 keeps its full share, and its gradient, divided by the loss, becomes mostly
noise; a task whose loss cannot fall (label noise) is under-weighted only by what its loss is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medmtl.weighting._checks import check_tasks
from medmtl.weighting._normalizers import NoNormalizer
from medmtl.weighting._raw import Inverse, gamma_of
from medmtl.weighting._raw_normalized import RawNormalized
from medmtl.weighting._registry import WEIGHTINGS


@WEIGHTINGS.register("uw-o")
class OptimalUncertaintyWeights(RawNormalized):
    """w_i = gamma_i / L_i; losses below 1e-20 count as 1e-20.

    Args:
        tasks: names of the K tasks.
        criteria: ``{task: "l1" | "l2" | "cross-entropy"}`` gives gamma = 1, 1/2, 1/2; tasks not named have 1.
        importance: ``{task: factor}``; tasks not named have 1.
        imbalance: a second such factor, for priors that follow from label counts.

    Raises:
        ConfigError: an unknown task or criterion, or a negative factor.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        criteria: Mapping[str, str] | None = None,
        importance: Mapping[str, float] | None = None,
        imbalance: Mapping[str, float] | None = None,
    ) -> None:
        names = check_tasks(tasks)
        super().__init__(
            names,
            raw=Inverse(gamma_of(criteria, names)),
            normalizer=NoNormalizer(),
            importance=importance,
            imbalance=imbalance,
        )
