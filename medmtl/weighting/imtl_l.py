"""Impartial loss balancing: learned factors that bring every loss to the same size.

Formula: total = sum_i exp(s_i) L_i - s_i with one learned s_i per task; at the optimum exp(s_i) L_i = 1.
Source: Liu et al., "Towards impartial multi-task learning", ICLR 2021 (IMTL-L, with a = e).
When: as Kendall's weights, without asking for the kind of each loss. Costs one number per task.
Fails: like ``uw``, it lags behind losses that fall fast, and the total may be negative; keep the parameters
out of weight decay (:meth:`~medmtl.weighting.Weighting.parameter_groups`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medmtl.weighting._bad_losses import Domain
from medmtl.weighting._base import Weighting
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._weighed import Weighed, finite, share_of


@WEIGHTINGS.register("imtl-l")
class ImpartialLoss(Weighting):
    """exp(s_i) L_i - s_i, every s_i starting at 0.

    Args:
        tasks: names of the K tasks.
    """

    domain: Domain = "non-negative"

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks)
        self.log_factor = nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in self.tasks)

    def weigh(self, losses: Tensor, present: tuple[int, ...]) -> Weighed:
        """The learned factors of the tasks present, with their gradient."""
        weights = torch.stack([self.log_factor[i].exp() for i in present])
        return Weighed(weights, weights, share_of(weights.detach() * losses, finite(losses)))

    def penalty(self, present: tuple[int, ...]) -> Tensor:
        """Minus the sum of s over the tasks present."""
        return -torch.stack([self.log_factor[i] for i in present]).sum()
