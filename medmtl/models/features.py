"""What a head may read. Nothing here is computed before a head asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from medmtl.models.descriptors import FrameShapes, Ring, describe_frames


@dataclass
class Whole:
    """What the trunk made of whole volumes that are coarser than the patch.

    Attributes:
        pyramid: encoder features ``(M, C_i, ...)``, finest first.
        frames: ``(M,)`` which of the N frames each one is.
        spacing_mm: ``(B, 3)`` voxel size of what is seen of each case: see `medmtl.types.Overview`.
        opened: as of `Features`.
    """

    pyramid: Sequence[Tensor]
    frames: Tensor
    spacing_mm: Tensor
    opened: Sequence[tuple[Tensor, ...]] = ()


@dataclass
class Features:
    """Everything the shared trunk offers to the heads of one forward pass.

    Attributes:
        pyramid: encoder features ``(N, C_i, ...)``, finest first; the last is the bottleneck. Empty where
            no task looks at patches.
        decode: turns the pyramid into decoded features; called at most once, when a head reads `decoded`.
        case_of_frame: ``(N,)`` case of each frame.
        spacing_mm: ``(B, 3)``.
        covariates: ``(B, V)``, NaN where unknown.
        seeds: one per case, from which dropout follows; empty leaves that to torch's global state.
        masks: by task, soft masks ``(N, K, X, Y, Z)`` of the heads that ran before.
        described: shapes of masks by what was asked, so that several heads share one description.
        opened: what `Backbone.encode_opened` gave besides the pyramid, where gradients are to be compared.
        whole: the second view, where a task wants it and a volume does not fit the patch.
        views: what each group of tasks sees of this, where groups have branches of their own.
    """

    pyramid: Sequence[Tensor]
    decode: Callable[[Sequence[Tensor]], list[Tensor]]
    case_of_frame: Tensor
    spacing_mm: Tensor
    covariates: Tensor
    seeds: Sequence[int] = ()
    masks: dict[str, Tensor] = field(default_factory=dict)
    described: dict[tuple[tuple[str, ...], Ring | None], FrameShapes] = field(default_factory=dict)
    opened: Sequence[tuple[Tensor, ...]] = ()
    whole: Whole | None = None
    views: dict[int, Features] = field(default_factory=dict)

    @cached_property
    def decoded(self) -> list[Tensor]:
        """Decoded features, finest first."""
        return self.decode(self.pyramid)

    def through(self, decode: Callable[[Sequence[Tensor]], list[Tensor]]) -> Features:
        """The same features, read through another decoder; masks and shapes stay shared."""
        return replace(self, decode=decode)

    def soft_masks(self, tasks: Sequence[str]) -> Tensor:
        """Soft masks of several tasks side by side ``(N, K, X, Y, Z)``, detached, float32."""
        return torch.cat([self.masks[task] for task in tasks], dim=1).detach().float()

    def shapes(self, tasks: Sequence[str], ring: Ring | None) -> FrameShapes:
        """What the masks of some tasks say together, frame by frame; computed once."""
        key = (tuple(tasks), ring)
        if key not in self.described:
            self.described[key] = describe_frames(
                self.soft_masks(tasks), self.spacing_mm[self.case_of_frame], ring
            )
        return self.described[key]

    @property
    def n_cases(self) -> int:
        """Number of cases B."""
        return int(self.spacing_mm.shape[0])
