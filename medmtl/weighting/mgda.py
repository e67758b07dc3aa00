"""Multiple-gradient descent: the shortest vector between the tasks' gradients.

Formula: d = sum_i w_i g_i with w = argmin |sum_i w_i g_i|^2 over w >= 0, sum w = 1. Then g_i . d >= |d|^2 for
every task: no loss rises, to first order, until no such direction is left.
Source: Desideri, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization", Comptes Rendus
Mathematique 2012; Sener and Koltun, "Multi-task learning as multi-objective optimization", NeurIPS 2018,
algorithm 1.
When: no task may get worse, and gradients have like sizes.
Costs: a few dozen microseconds beside the gradients; waits for the device once per step.
Fails: the shortest vector lies near the *smallest* gradient, so a task that is nearly learned, or one whose
loss is in small units, decides the step and the others wait.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medmtl.weighting._cone import smallest_convex_combination, square_root
from medmtl.weighting._gradient_weighting import GramianWeighting
from medmtl.weighting._registry import WEIGHTINGS


@WEIGHTINGS.register("mgda")
class MultipleGradientDescent(GramianWeighting):
    """The minimum-norm point of the convex hull of the gradients, exactly.

    Args:
        tasks: names of the K tasks.
        on: where gradients are compared: ``last_layers``, ``features`` or ``shared_parameters``.
        sketch: random projections per filter that stand for its gradient; 0 takes the gradient itself, and
            by default it is 8 where that is possible.

    Raises:
        ConfigError: an unknown ``on``.
    """

    def solve(self, gramian: Tensor) -> Tensor:
        """Weights on the simplex."""
        return torch.from_numpy(smallest_convex_combination(square_root(gramian)))
