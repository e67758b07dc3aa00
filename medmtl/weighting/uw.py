"""Uncertainty weights, learned.

Formula, with one log-variance s_i = log sigma_i^2 per task, learned with the network:
L1 (Laplace)   L / sigma + log sigma          optimum sigma = L,        w L = 1
L2 (Gauss)     L / (2 sigma^2) + log sigma    optimum sigma^2 = L,      w L = 1/2
cross-entropy  L / sigma^2 + log sigma        optimum sigma^2 = 2 L,    w L = 1/2
Source: Kendall, Gal, Cipolla, "Multi-task learning using uncertainty to weigh losses", CVPR 2018, equations
5 to 10.
When: the classic learned baseline; losses are likelihoods of those kinds. Costs one number per task.
Fails: it follows its optimum 1 / L with the delay of its learning rate, so it inherits UW-O's taste for
small losses and lags when losses fall fast; the total may be negative. Weight decay would pull sigma to 1:
put :meth:`~medmtl.weighting.Weighting.parameter_groups` into the optimizer, which leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from medmtl.weighting._bad_losses import Domain
from medmtl.weighting._base import Weighting
from medmtl.weighting._checks import criterion_of
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._weighed import Weighed, finite, share_of

FORMS = {"l1": (1.0, 0.5), "l2": (0.5, 1.0), "cross-entropy": (1.0, 1.0)}
"""By criterion (a, b) of the weight a exp(-b s): 1 / sigma, 1 / (2 sigma^2), 1 / sigma^2."""


@WEIGHTINGS.register("uw")
class UncertaintyWeights(Weighting):
    """Kendall's weights: sum_i w_i(s_i) L_i + s_i / 2, every s_i starting at 0 (sigma = 1).

    Each task has a parameter of its own, so that an absent task's stays without a gradient and no optimizer
    moves it.

    Args:
        tasks: names of the K tasks.
        criteria: ``{task: "l1" | "l2" | "cross-entropy"}``; tasks not named have ``"l2"``, the paper's
            equation 7.

    Raises:
        ConfigError: an unknown task or criterion.
    """

    domain: Domain = "non-negative"

    def __init__(self, tasks: Sequence[str], *, criteria: Mapping[str, str] | None = None) -> None:
        super().__init__(tasks)
        named = criterion_of(criteria, self.tasks, list(FORMS))
        self.forms = [FORMS[named.get(task, "l2")] for task in self.tasks]
        self.log_variance = nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in self.tasks)

    def weigh(self, losses: Tensor, present: tuple[int, ...]) -> Weighed:
        """The learned weights of the tasks present, with their gradient."""
        weights = torch.stack(
            [self.forms[i][0] * torch.exp(-self.forms[i][1] * self.log_variance[i]) for i in present]
        )
        return Weighed(weights, weights, share_of(weights.detach() * losses, finite(losses)))

    def penalty(self, present: tuple[int, ...]) -> Tensor:
        """Sum of log sigma over the tasks present."""
        return torch.stack([self.log_variance[i] for i in present]).sum() / 2
