"""Weight learning: weights on the simplex, learned with the network.

Formula: two tasks: w_1 = sigmoid(s), w_2 = 1 - w_1 with one learned s; K tasks: w = softmax(s) with a learned
s_i per task; total = sum_i w_i L_i, every s starting at 0.
Source: Leang et al., "Dynamic task weighting methods for multi-task networks in autonomous driving systems",
ITSC 2020 (weight learning, one sigmoid for two tasks); the softmax is its form for K tasks.
When: to reproduce the comparison; there is little else to be said for it.
Costs: one number per task (one for two tasks).
Fails: d total / d s_i = w_i (L_i - total), so the weight of the smallest loss grows until it holds
everything: it pulls toward the smaller loss by construction, and units matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medmtl.weighting._base import Weighting
from medmtl.weighting._normalizers import HUGE
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._weighed import Weighed, finite, share_of


@WEIGHTINGS.register("weight-learning")
class WeightLearning(Weighting):
    """A learned sigmoid for two tasks, a learned softmax for more.

    Each of K > 2 tasks has a parameter of its own, so that an absent task's stays without a gradient and no
    optimizer moves it; of two tasks with one absent, the other weighs 1 and the one parameter stays.

    Args:
        tasks: names of the K tasks.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__(tasks)
        n_parameters = len(self.tasks) - 1 if len(self.tasks) <= 2 else len(self.tasks)
        self.logit = nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in range(n_parameters))

    def weigh(self, losses: Tensor, present: tuple[int, ...]) -> Weighed:
        """The learned weights over the usable tasks present, with their gradient."""
        usable = finite(losses)
        if len(present) == 1:  # 1 whatever the parameter is, which therefore gets no gradient
            weights = torch.ones_like(losses)
        else:
            logits = torch.where(usable, self._logits(present), -HUGE)
            weights = torch.where(usable, torch.softmax(logits, dim=0), 0.0)
        return Weighed(weights, weights, share_of(weights.detach(), usable))

    def _logits(self, present: tuple[int, ...]) -> Tensor:
        if len(self.tasks) == 2:
            half = self.logit[0] / 2  # softmax(s / 2, -s / 2) is sigmoid(s) and 1 - sigmoid(s)
            return torch.stack([half, -half])
        return torch.stack([self.logit[position] for position in present])
