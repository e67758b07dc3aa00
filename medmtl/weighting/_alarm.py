"""Collapse alarm: notices, without waiting for the device, that one task has taken everything."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medmtl.weighting._slots import pick, put

SHARE = 0.99
"""A task with more than this share of the total leaves nothing for the others."""

PATIENCE = 100
"""Consecutive steps before the alarm speaks: one hard batch is no collapse."""


class CollapseAlarm(nn.Module):
    """Counts, for each of K tasks, the consecutive steps on which it held more than 99 % of the total.

    A step on which fewer than two tasks could compete says nothing and leaves the counts as they are.
    """

    steps: Tensor

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(n_tasks, dtype=torch.int64))

    def update(self, share: Tensor, present: tuple[int, ...], competing: Tensor) -> None:
        """Counts one step.

        Args:
            share: ``(P,)`` share of each present task, summing to 1.
            present: positions of the P present tasks.
            competing: ``(P,)`` bool, tasks with a usable loss on this step.
        """
        if len(present) < 2:
            return
        before = pick(self.steps, present)
        after = torch.where(competing.sum() >= 2, (before + 1) * (share > SHARE), before)
        put(self.steps, present, after)

    def position(self) -> int | None:
        """Position of the task that has held everything for 100 steps, or None. Waits for the device."""
        counts: list[int] = self.steps.tolist()
        longest = max(counts)
        return counts.index(longest) if longest >= PATIENCE else None
