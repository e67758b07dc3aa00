"""Aligned-MTL: the gradients' principal components, brought to one length.

Formula: with the Gramian's eigenvectors V and values l, w = sqrt(s) V l^(-1/2) V^T (1/K, ..., 1/K), s the
smallest of the values that are not 0. The combined gradient comes from a system with condition number 1.
Source: Senushkin et al., "Independent component alignment for multi-task learning", CVPR 2023, algorithm 1;
TorchJD's AlignedMTL.
When: gradients conflict or dominate, and the mean of the aligned ones is wanted.
Costs: one K x K eigenvalue problem on the CPU; waits for the device once per step.
Fails: everything is scaled to the *smallest* component, so a weak or noisy direction shortens the step
(with Adam, only its direction matters).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal

from medmtl.registry import nearest
from medmtl.types import ConfigError
from medmtl.weighting._gradient_weighting import On
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._torchjd import TorchJDWeighting

SCALES = ("min", "median", "rmse")


@WEIGHTINGS.register("aligned-mtl")
class AlignedGradients(TorchJDWeighting):
    """The mean of gradients whose principal components were brought to one length.

    Args:
        tasks: names of the K tasks.
        scale: that length: the ``min``, as in the paper, the ``median`` or the ``rmse`` of the components'.
        on: where gradients are compared: ``last_layers``, ``features`` or ``shared_parameters``.
        sketch: random projections per filter that stand for its gradient; 0 takes the gradient itself, and
            by default it is 8 where that is possible.

    Raises:
        ConfigError: TorchJD is not installed, or an unknown ``scale`` or ``on``.
    """

    name = "aligned-mtl"

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        scale: Literal["min", "median", "rmse"] = "min",
        on: On = "last_layers",
        sketch: int | None = None,
    ) -> None:
        super().__init__(tasks, on=on, sketch=sketch)
        if scale not in SCALES:
            raise ConfigError(f"unknown scale {scale!r}{nearest(str(scale), list(SCALES))}")
        self.scale = scale

    def method(self, aggregation: ModuleType) -> Any:
        """TorchJD's Aligned-MTL on a Gramian."""
        return aggregation.AlignedMTLWeighting(scale_mode=self.scale)
