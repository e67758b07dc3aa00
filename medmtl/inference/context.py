"""What stays the same from case to case while a model predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from medmtl.data.prepare import Preparation
from medmtl.inference.device import fast_dtype
from medmtl.models import CaseHead, MultiTaskNetwork
from medmtl.tasks import Task

VOXELS_AT_ONCE = {"cpu": 2**17, "cuda": 2**25}
"""Voxels of input that go through the network together, by device; on a CPU what its caches hold."""


def nothing() -> None:
    """Go on."""


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
        at_once: patches that go through the network together; as many as the device takes by default.
        stitch_on_cpu: put windows together in the machine's memory instead of the device's.
        check: called between frames and windows; raises where the case has had its time.
    """

    network: MultiTaskNetwork
    tasks: Mapping[str, Task]
    preparation: Preparation
    device: torch.device
    mirror: bool = False
    others: tuple[Context, ...] = ()
    at_once: int | None = None
    stitch_on_cpu: bool = False
    check: Callable[[], None] = nothing

    def adapted(self, **changes: Any) -> Context:
        """The same with other fields, in every member of the ensemble."""
        return replace(self, others=tuple(other.adapted(**changes) for other in self.others), **changes)

    @property
    def members(self) -> tuple[Context, ...]:
        """All members of the ensemble; this one alone where it is none."""
        return (self, *self.others)

    def sees_whole(self, task: str) -> bool:
        """Whether a case task looks at whole volumes where they do not fit the patch."""
        head = self.network.head(task)
        return self.preparation.overview is not None and isinstance(head, CaseHead) and head.sees_whole

    def autocast(self) -> torch.autocast:
        """Mixed precision where the device is fast at it."""
        dtype = fast_dtype(self.device)
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)

    @property
    def volumes_at_once(self) -> int:
        """How many patches go through the network together."""
        if self.at_once is not None:
            return self.at_once
        x, y, z = self.preparation.patch
        return max(1, VOXELS_AT_ONCE.get(self.device.type, 2**17) // (x * y * z))
