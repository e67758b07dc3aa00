"""How much memory there is to plan for."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from medmtl.data.room import total_memory
from medmtl.plan.memory import GIB

REFERENCE = 8 * GIB
"""What is planned for where there is more: nnU-Net's target. Larger patches and batches cost time on every
step, and seldom gain; who wants them says so."""


@dataclass(frozen=True)
class Budget:
    """Memory for training.

    Attributes:
        planned: bytes that a plan may fill.
        total: bytes that there are; nothing above runs.
        device: where, in words.
        value_bytes: 4 in float32, 2 where mixed precision is used.
    """

    planned: int
    total: int
    device: str
    value_bytes: int


def budget_of(device: torch.device, *, half: bool, asked_gib: float | None = None) -> Budget:
    """Memory of a device.

    On a GPU all of it counts, on a CPU half of it, as prepared cases live there too. What is free at the
    moment does not count: the same machine is to lead to the same plan.

    Args:
        device: where the training will run.
        half: activations take two bytes there (mixed precision).
        asked_gib: plan for so much instead, such as for a machine that is not this one.
    """
    if device.type == "cuda" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(device)
        total, usable, name = int(properties.total_memory), int(properties.total_memory), str(properties.name)
    elif device.type == "cuda":  # planned for elsewhere
        total, usable, name = REFERENCE, REFERENCE, "a GPU that is not here"
    else:
        total, usable, name = total_memory(), total_memory() // 2, "this machine's main memory"
    planned = min(usable, REFERENCE) if asked_gib is None else int(asked_gib * GIB)
    if asked_gib is not None:
        total, name = max(total, planned), f"{asked_gib:g} GiB, as asked"
    return Budget(planned, total, name, 2 if half else 4)
