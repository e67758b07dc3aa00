"""What a head may read. Nothing here is computed before a head asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor


@dataclass
class Features:
    """Everything the shared trunk offers to the heads of one forward pass.

    Attributes:
        pyramid: encoder features ``(N, C_i, ...)``, finest first; the last is the bottleneck.
        decode: turns the pyramid into decoded features; called at most once, and only when a head reads `decoded`.
        case_of_frame: ``(N,)`` case of each frame.
        spacing_mm: ``(B, 3)``.
        covariates: ``(B, V)``, NaN where unknown.
        masks: by task, soft masks ``(N, K, X, Y, Z)`` of the heads that ran before.
    """

    pyramid: Sequence[Tensor]
    decode: Callable[[Sequence[Tensor]], list[Tensor]]
    case_of_frame: Tensor
    spacing_mm: Tensor
    covariates: Tensor
    masks: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def decoded(self) -> list[Tensor]:
        """Decoded features, finest first."""
        return self.decode(self.pyramid)

    @property
    def n_cases(self) -> int:
        """Number of cases B."""
        return int(self.spacing_mm.shape[0])
