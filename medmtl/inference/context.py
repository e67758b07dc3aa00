"""What stays the same from case to case while a model predicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from medmtl.data.prepare import Preparation
from medmtl.inference.device import fast_dtype
from medmtl.models import MultiTaskNetwork
from medmtl.tasks import Task

VOXELS_AT_ONCE = {"cpu": 2**20, "cuda": 2**25}
"""Voxels of input that go through the network together, by device."""


@dataclass(frozen=True)
class Context:
    """Network, tasks and device.

    Attributes:
        network: in evaluation mode, on ``device``.
        tasks: by name.
        preparation: its ``patch`` is what the network sees at once.
        device: where to compute.
        mirror: average dense tasks over in-plane mirror images.
        others: the other members of an ensemble, whose outputs are averaged with these.
    """

    network: MultiTaskNetwork
    tasks: Mapping[str, Task]
    preparation: Preparation
    device: torch.device
    mirror: bool = False
    others: tuple[Context, ...] = ()

    @property
    def members(self) -> tuple[Context, ...]:
        """All members of the ensemble; this one alone where it is none."""
        return (self, *self.others)

    def autocast(self) -> torch.autocast:
        """Mixed precision where the device is fast at it."""
        dtype = fast_dtype(self.device)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    @property
    def volumes_at_once(self) -> int:
        """How many patches go through the network together."""
        x, y, z = self.preparation.patch
        return max(1, VOXELS_AT_ONCE.get(self.device.type, 2**20) // (x * y * z))
