"""Mean losses of the last two epochs in which a task appeared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medmtl.weighting._slots import pick, put
from medmtl.weighting._weighed import finite


class EpochMeans(nn.Module):
    """Running sums of the present epoch and the means of the two before it, one of each per task.

    Args:
        n_tasks: number of tasks K.

    Attributes:
        last: ``(K,)`` mean of the last epoch in which the task appeared, 0 before there is one.
        before: ``(K,)`` that of the one before.
    """

    total: Tensor
    steps: Tensor
    last: Tensor
    before: Tensor

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        for state in ("total", "steps", "last", "before"):
            self.register_buffer(state, torch.zeros(n_tasks))

    def add(self, losses: Tensor, present: tuple[int, ...]) -> None:
        """Takes the losses ``(P,)`` of one step into the present epoch; NaN and inf do not count."""
        usable = finite(losses)
        put(self.total, present, pick(self.total, present) + torch.where(usable, losses, 0.0))
        put(self.steps, present, pick(self.steps, present) + usable)

    def close(self) -> None:
        """Turns sums into means; a task that did not appear keeps the means that it has."""
        appeared = self.steps > 0
        mean = self.total / self.steps.clamp_min(1)
        self.before.copy_(torch.where(appeared, self.last, self.before))
        self.last.copy_(torch.where(appeared, mean, self.last))
        self.total.zero_()
        self.steps.zero_()
