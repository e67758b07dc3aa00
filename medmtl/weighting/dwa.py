"""Dynamic weight average: tasks whose loss falls slowly get more.

Formula: w_i(t) = K softmax(r_i / T) with r_i = L_i(t - 1) / L_i(t - 2), epoch means; r_i = 1 for two epochs.
Source: Liu, Johns, Davison, "End-to-end multi-task learning with attention", CVPR 2019, equation 7, T = 2.
When: losses have like sizes and only their speed should matter. It is scale-free. Costs a sum per task and
step.
Fails: ratios of neighbouring epochs are near 1, so weights stay nearly equal; noisy epochs move them at
random.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medmtl.weighting._base import TINY
from medmtl.weighting._checks import check_tasks
from medmtl.weighting._normalizers import TemperatureSoftmax
from medmtl.weighting._raw import RawWeights
from medmtl.weighting._raw_normalized import RawNormalized
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._slots import pick, put


class DescentRate(RawWeights):
    """Mean loss of the last epoch over that of the one before, of the epochs in which a task appeared."""

    total: Tensor
    steps: Tensor
    last: Tensor
    before: Tensor

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        for state in ("total", "steps", "last", "before"):
            self.register_buffer(state, torch.zeros(n_tasks))

    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """The rates, taking the losses into this epoch's means."""
        usable = torch.isfinite(losses)
        put(self.total, present, pick(self.total, present) + torch.where(usable, losses, 0.0))
        put(self.steps, present, pick(self.steps, present) + usable)
        last, before = pick(self.last, present), pick(self.before, present)
        return torch.where((last > TINY) & (before > TINY), last / before.clamp_min(TINY), 1.0)

    def end_epoch(self) -> None:
        """Turns sums into means; a task that did not appear keeps the means that it has."""
        appeared = self.steps > 0
        mean = self.total / self.steps.clamp_min(1)
        self.before.copy_(torch.where(appeared, self.last, self.before))
        self.last.copy_(torch.where(appeared, mean, self.last))
        self.total.zero_()
        self.steps.zero_()


class SoftmaxTimesK(TemperatureSoftmax):
    """K softmax(raw / T) with K the number of usable tasks present."""

    def __call__(self, raw: Tensor, usable: Tensor) -> Tensor:
        """Weights that sum to K."""
        return super().__call__(raw, usable) * usable.sum()


@WEIGHTINGS.register("dwa")
class DynamicWeightAverage(RawNormalized):
    """K softmax(descent rate / T); the trainer calls :meth:`~medmtl.weighting.Weighting.end_epoch`.

    Args:
        tasks: names of the K tasks.
        temperature: T > 0; the paper's is 2.

    Raises:
        ConfigError: a temperature that is not above 0.
    """

    def __init__(self, tasks: Sequence[str], *, temperature: float = 2.0) -> None:
        names = check_tasks(tasks)
        super().__init__(
            names, raw=DescentRate(len(names)), normalizer=SoftmaxTimesK(temperature=temperature)
        )
