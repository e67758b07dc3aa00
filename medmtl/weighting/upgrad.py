"""UPGrad: every gradient is turned until it conflicts with none, then the mean is taken.

Formula: d = mean_i P(g_i), P the projection onto the cone of vectors v with v . g_j >= 0 for all j.
Source: Quinton and Rey, "Jacobian descent for multi-objective optimization", arXiv 2406.16232, equation 4;
TorchJD's UPGrad, with medmtl's own projection in place of quadprog, which is under the GPL.
When: no task's loss may rise, and large gradients should count for more than small ones.
Costs: K small nonnegative least-squares problems on the CPU; waits for the device once per step.
Fails: where gradients are opposed, what is left of them is short.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medmtl.weighting._cone import nonnegative_least_squares, square_root
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._torchjd import TorchJDWeighting


def project_onto_dual_cone(weights: Tensor, gramian: Tensor) -> Tensor:
    """For each row u of ``weights`` the v >= u with the smallest v^T G v.

    J^T v is the projection of J^T u onto the cone of what conflicts with no row of J (proposition 1 of the
    paper). v = u + z with z >= 0 makes it a nonnegative least-squares problem.

    Args:
        weights: ``(..., P)``.
        gramian: ``(P, P)``, J J^T.
    """
    root = square_root(gramian)
    rows = weights.numpy().reshape(-1, len(gramian))
    projected = [u + nonnegative_least_squares(root, -(root @ u)) for u in rows]
    return torch.from_numpy(np.stack(projected).reshape(tuple(weights.shape)))


@WEIGHTINGS.register("upgrad")
class UnconflictingProjection(TorchJDWeighting):
    """The mean of the gradients, each projected so that it conflicts with none.

    Args:
        tasks: names of the K tasks.
        on: where gradients are compared: ``last_layers``, ``features`` or ``shared_parameters``.
        sketch: random projections per filter that stand for its gradient; 0 takes the gradient itself, and
            by default it is 8 where that is possible.

    Raises:
        ConfigError: TorchJD is not installed, or an unknown ``on``.
    """

    name = "upgrad"

    def method(self, aggregation: ModuleType) -> Any:
        """TorchJD's UPGrad on a Gramian."""
        return aggregation.UPGradWeighting(projector=project_onto_dual_cone)
