"""DualProj: the mean gradient, turned until it conflicts with no task.

Formula: d = P(mean_i g_i), P the projection onto the cone of vectors v with v . g_j >= 0 for all j.
Source: Lopez-Paz and Ranzato, "Gradient episodic memory for continual learning", NeurIPS 2017, equation 11;
TorchJD's DualProj, with medmtl's own projection in place of quadprog, which is under the GPL.
When: the mean gradient is right but for conflicts; it changes nothing where there are none.
Costs: one small nonnegative least-squares problem on the CPU; waits for the device once per step.
Fails: the larger gradient still decides, up to the point where the others would lose.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._torchjd import TorchJDWeighting
from medmtl.weighting.upgrad import project_onto_dual_cone


@WEIGHTINGS.register("dualproj")
class DualConeProjection(TorchJDWeighting):
    """The mean of the gradients, projected so that it conflicts with none.

    Args:
        tasks: names of the K tasks.
        on: where gradients are compared: ``last_layers``, ``features`` or ``shared_parameters``.
        sketch: random projections per filter that stand for its gradient; 0 takes the gradient itself, and
            by default it is 8 where that is possible.

    Raises:
        ConfigError: TorchJD is not installed, or an unknown ``on``.
    """

    name = "dualproj"

    def method(self, aggregation: ModuleType) -> Any:
        """TorchJD's DualProj on a Gramian."""
        return aggregation.DualProjWeighting(projector=project_onto_dual_cone)
