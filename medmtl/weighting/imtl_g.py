"""Impartial gradients: a step with the same projection onto every task's gradient.

Formula: d = sum_i w_i g_i, sum w = 1, with d . g_i / |g_i| the same for all tasks; w is proportional to
G^+ (|g_1|, ..., |g_K|) with G^+ the pseudo-inverse of the Gramian.
Source: Liu et al., "Towards impartial multi-task learning", ICLR 2021 (IMTL-G, equation 6); TorchJD's IMTLG.
When: no task may be favoured by the size of its gradient.
Costs: one K x K pseudo-inverse on the CPU; waits for the device once per step.
Fails: weights may be negative, and where gradients nearly conflict they grow large; then the step is mostly
noise.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._torchjd import TorchJDWeighting


@WEIGHTINGS.register("imtl-g")
class ImpartialGradient(TorchJDWeighting):
    """Equal projections on all gradients.

    Args:
        tasks: names of the K tasks.
        on: where gradients are compared: ``last_layers``, ``features`` or ``shared_parameters``.
        sketch: random projections per filter that stand for its gradient; 0 takes the gradient itself, and
            by default it is 8 where that is possible.

    Raises:
        ConfigError: TorchJD is not installed, or an unknown ``on``.
    """

    name = "imtl-g"

    def method(self, aggregation: ModuleType) -> Any:
        """TorchJD's IMTL-G on a Gramian."""
        return aggregation.IMTLGWeighting()
