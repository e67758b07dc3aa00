"""Revised uncertainty weights: Kendall's, with a penalty that is never negative.

Formula: total = sum_i L_i / (2 c_i) + ln(1 + c_i) with a learned c_i = sigma_i^2 > 0 per task; the optimum is
c = (L + sqrt(L^2 + 8 L)) / 4. Source: Liebel and Koerner, "Auxiliary tasks in multi-task learning",
arXiv 1805.06334, 2018.
When: Kendall's weights, but the total is to stay positive (a loss curve that can be read, a stopping rule).
Costs one number per task.
Fails: the weight saturates differently from 1 / L: for small losses it grows only like the root of 1 / L.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medmtl.weighting._bad_losses import Domain
from medmtl.weighting._base import Weighting
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._weighed import Weighed, finite, share_of


@WEIGHTINGS.register("uw-revised")
class RevisedUncertaintyWeights(Weighting):
    """L / (2 c) + ln(1 + c) with c = exp(s), every s starting at 0 (c = 1).

    Args:
        tasks: names of the K tasks.
    """

    domain: Domain = "non-negative"

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks)
        self.log_variance = nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in self.tasks)

    def weigh(self, losses: Tensor, present: tuple[int, ...]) -> Weighed:
        """The learned weights of the tasks present, with their gradient."""
        weights = torch.stack([torch.exp(-self.log_variance[i]) / 2 for i in present])
        return Weighed(weights, weights, share_of(weights.detach() * losses, finite(losses)))

    def penalty(self, present: tuple[int, ...]) -> Tensor:
        """Sum of ln(1 + c) over the tasks present."""
        return torch.stack([nn.functional.softplus(self.log_variance[i]) for i in present]).sum()
