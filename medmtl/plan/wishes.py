"""What goes into a plan besides the data: what is not left open, and what a step carries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medmtl.data.normalize import Normalizations
from medmtl.plan.spacing import Slices


@dataclass(frozen=True)
class Wishes:
    """What is not left to the data; None is.

    Attributes:
        spacing_mm: target voxel size; None entries keep a case's own.
        patch: voxels that the network sees at once.
        normalization: as a config has it, see `parse_normalization`.
        backbone: ``type`` and arguments; for a ``unet``, ``widths``, ``kernels`` and ``strides`` may be
            missing.
        batch_size: cases per step.
        slices: what becomes of thick slices where ``spacing_mm`` is open.
    """

    spacing_mm: Sequence[float | None] | None = None
    patch: Sequence[int] | None = None
    normalization: Normalizations | str | None = None
    backbone: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    slices: Slices = "keep"


@dataclass(frozen=True)
class Load:
    """What a step carries besides the backbone.

    Attributes:
        frames_per_case: frames of each case in a step, on average.
        dense_channels: classes and maps per voxel that the dense heads say, together.
        decoders: dense tasks, where each has a decoder of its own.
        ranks: machines or GPUs that share a step.
    """

    frames_per_case: float = 1.0
    dense_channels: int = 0
    decoders: int = 1
    ranks: int = 1

    def volumes(self, batch_size: int) -> float:
        """Frames that one of the ranks sees in a step."""
        return math.ceil(batch_size / self.ranks) * self.frames_per_case
