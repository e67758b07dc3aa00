"""Geometric loss: the product of the losses, to the power 1 / K.

Formula: total = (prod_i L_i)^(1/P) over the P tasks present, so d total / d L_i = total / (P L_i).
Source: Chennupati et al., "MultiNet++: multi-stream feature aggregation and geometric loss strategy", CVPR
workshops 2019.
When: as UW-O, whose gradient direction it shares, with a step that shrinks as the losses do.
Costs: K logarithms.
Fails: a loss of 0 makes the total 0 and stops the learning of the others; as UW-O, it favours what nears 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medmtl.weighting._bad_losses import Domain
from medmtl.weighting._base import Weighting
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._weighed import TINY, Weighed, finite


@WEIGHTINGS.register("gls")
class GeometricLoss(Weighting):
    """w_i = (prod L)^(1/P) / (P L_i) with a stop-gradient.

    So sum_i w_i L_i has the value and the gradient of the geometric mean. Computed in logarithms; losses
    count as at least 1e-20.

    Args:
        tasks: names of the K tasks.
    """

    domain: Domain = "positive"

    def weigh(self, losses: Tensor, present: tuple[int, ...]) -> Weighed:
        """The derivative of the geometric mean by each loss."""
        usable = finite(losses)
        logs = torch.where(usable, losses, 1.0).clamp_min(TINY).log()
        count = usable.sum().clamp_min(1)
        mean = torch.where(usable, logs, 0.0).sum() / count
        weights = torch.where(usable, (mean - logs).exp() / count, 0.0)
        return Weighed(weights, weights, torch.where(usable, 1.0, 0.0) / count)
