"""Conflict-averse gradient descent: near the mean gradient, the direction that is best for the worst task.

Formula: d = argmax min_i g_i . d over |d - g0| <= c |g0| with g0 = mean g. By duality
d = g0 + c |g0| g_w / |g_w| with g_w = sum_i w_i g_i and w = argmin g_w . g0 + c |g0| |g_w| on the simplex.
Source: Liu et al., "Conflict-averse gradient descent for multi-task learning", NeurIPS 2021, algorithm 1.
When: gradients conflict, and the mean is otherwise the right compromise. c = 0 is the mean, c near 1 is close
to MGDA; the paper uses 0.4 to 0.5.
Costs: less than a millisecond beside the gradients; waits for the device once per step.
Fails: it starts from the mean gradient, so a task with a much larger gradient still decides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medmtl.types import ConfigError
from medmtl.weighting._checks import number
from medmtl.weighting._cone import smallest_convex_combination, square_root
from medmtl.weighting._gradient_weighting import GramianWeighting, On
from medmtl.weighting._registry import WEIGHTINGS

ROUNDING = 1e-12
"""Share of the mean squared norm below which g_w counts as 0: there is no better direction than the mean."""


@WEIGHTINGS.register("cagrad")
class ConflictAverseGradient(GramianWeighting):
    """Weights 1 / K + c |g0| w_i / |g_w|.

    The dual has a norm in it. With a multiplier m in its place it is a minimum-norm problem,
    min |g_w + m g0| over the simplex, and m is where |g_w| = m c |g0|; a root in one number.

    Args:
        tasks: names of the K tasks.
        c: how far from the mean gradient, relative to its norm; at least 0 and less than 1.
        on: where gradients are compared: ``last_layers``, ``features`` or ``shared_parameters``.
        sketch: random projections per filter that stand for its gradient; 0 takes the gradient itself, and
            by default it is 8 where that is possible.

    Raises:
        ConfigError: c out of range, or an unknown ``on``.
    """

    def __init__(
        self, tasks: Sequence[str], *, c: float = 0.4, on: On = "last_layers", sketch: int | None = None
    ) -> None:
        super().__init__(tasks, on=on, sketch=sketch)
        self.c = number("c", c)
        if not 0 <= self.c < 1:
            raise ConfigError(f"c must be at least 0 and less than 1; found {c!r}")

    def solve(self, gramian: Tensor) -> Tensor:
        """Weights of the mean and of the best convex combination together."""
        from scipy.optimize import brentq

        count = len(gramian)
        mean = np.full(count, 1 / count)
        root = square_root(gramian)
        radius = self.c * float(np.linalg.norm(root @ mean))
        if radius == 0:
            return torch.from_numpy(mean)

        def combination(multiplier: float) -> np.ndarray:
            return smallest_convex_combination(root + multiplier * np.outer(root @ mean, np.ones(count)))

        def excess(log_multiplier: float) -> float:
            multiplier = float(np.exp(log_multiplier))
            return float(np.log(np.linalg.norm(root @ combination(multiplier)) + 1e-300)) - float(
                np.log(multiplier * radius)
            )

        low, high = -30.0, 30.0
        while excess(high) > 0:
            high += 30.0
        if excess(low) <= 0:  # |g_w| can be made 0: the mean is already the best that there is
            return torch.from_numpy(mean)
        multiplier = float(np.exp(brentq(excess, low, high, xtol=1e-13)))
        weights = combination(multiplier)
        length = float(np.linalg.norm(root @ weights))
        if length**2 < ROUNDING:
            return torch.from_numpy(mean)
        return torch.from_numpy(mean + radius / length * weights)
