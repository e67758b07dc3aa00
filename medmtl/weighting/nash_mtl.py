"""Nash-MTL: the tasks bargain about the step, and each gains in proportion to the same product.

Formula: d = sum_i a_i g_i with a_i (G a)_i = 1 for every task, G the Gramian; then |d| is the root of the
number of tasks, and is cut to ``max_norm``.
Source: Navon et al., "Multi-task learning as a bargaining game", ICML 2022, claim 3.1 and algorithm 1.
When: losses have unlike units: the direction does not change when one of them is rescaled.
Costs: some ten K x K systems beside the gradients; waits for the device once per step.
Fails: where gradients are nearly opposed or one is nearly 0, its weight grows without bound, and the step is
mostly noise of that task. The paper updates the weights every few steps to save time, which the closed
problem below makes needless.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medmtl.weighting._checks import positive
from medmtl.weighting._gradient_weighting import GramianWeighting, On
from medmtl.weighting._registry import WEIGHTINGS

RIDGE = 1e-9
"""Added to the Gramian's diagonal, relative to each entry, so that opposed gradients have an answer."""

ITERATIONS = 200


@WEIGHTINGS.register("nash-mtl")
class NashBargaining(GramianWeighting):
    """The bargaining solution, by Newton's method.

    a_i (G a)_i = 1 is where the convex a^T G a / 2 - sum_i log a_i has its minimum. The paper's sequence of
    approximations, and the solver under the GPL that it takes, are not needed.

    Args:
        tasks: names of the K tasks.
        max_norm: largest norm of the step on what is compared; None leaves it at the root of the number of
            tasks.
        on: where gradients are compared: ``last_layers``, ``features`` or ``shared_parameters``.
        sketch: random projections per filter that stand for its gradient; 0 takes the gradient itself, and
            by default it is 8 where that is possible.

    Raises:
        ConfigError: a norm that is not above 0, or an unknown ``on``.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        max_norm: float | None = 1.0,
        on: On = "last_layers",
        sketch: int | None = None,
    ) -> None:
        super().__init__(tasks, on=on, sketch=sketch)
        self.max_norm = None if max_norm is None else positive("max_norm", max_norm)

    def solve(self, gramian: Tensor) -> Tensor:
        """Weights > 0; a task whose gradient is 0 has nothing to bargain about, and gets 0."""
        own = gramian.diagonal()
        weights = torch.zeros_like(own)
        able = (own > 0).nonzero().flatten()
        unit = own[able].rsqrt()
        weights[able] = unit * _bargain(gramian[able][:, able] * unit[:, None] * unit)
        if self.max_norm is not None:
            weights *= min(1.0, self.max_norm / math.sqrt(len(able)))
        return weights

    def unscaled(self, weights: Tensor, scale: float) -> Tensor:
        """The weights undo the gradients' size."""
        return weights / math.sqrt(scale)


def _bargain(cosines: Tensor) -> Tensor:
    """The a > 0 with a_i (C a)_i = 1 for a positive semidefinite C with a diagonal of 1.

    Damped Newton steps of 1 / (1 + decrement) converge for a self-concordant function wherever they start.
    """
    count = len(cosines)
    matrix = cosines + RIDGE * torch.eye(count, dtype=cosines.dtype)
    a = torch.full((count,), 1 / math.sqrt(count), dtype=cosines.dtype)
    for _ in range(ITERATIONS):
        gradient = matrix @ a - 1 / a
        step = torch.linalg.solve(matrix + torch.diag(a**-2), gradient)
        decrement = math.sqrt(max(0.0, float(gradient @ step)))
        a = a - step * (1.0 if decrement < 0.25 else 1 / (1 + decrement))
        if decrement < 1e-12:
            break
    return a
