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
        overview: voxels of the coarser whole volume, ``none``, or ``auto`` to decide by the data.
        views: the views that the case tasks ask for: ``auto``, ``local``, ``global``.
    """

    spacing_mm: Sequence[float | None] | None = None
    patch: Sequence[int] | None = None
    normalization: Normalizations | str | None = None
    backbone: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    slices: Slices = "keep"
    overview: Sequence[int] | str = "auto"
    views: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Load:
    """What a step carries besides the backbone.

    Attributes:
        frames_per_case: frames of each case in a step, on average.
        dense_channels: classes and maps per voxel that the dense heads say, together.
        decoders: dense tasks, where each has a decoder of its own.
        ranks: machines or GPUs that share a step.
        overview: what the whole view of a frame takes, as a share of what its patch takes.
    """

    frames_per_case: float = 1.0
    dense_channels: int = 0
    decoders: int = 1
    ranks: int = 1
    overview: float = 0.0

    @property
    def volumes_per_case(self) -> float:
        """Volumes of the patch's size that a case amounts to in a step."""
        return self.frames_per_case * (1 + self.overview)

    def volumes(self, batch_size: int) -> float:
        """Frames that one of the ranks sees in a step."""
        return math.ceil(batch_size / self.ranks) * self.volumes_per_case
