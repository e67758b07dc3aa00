"""Handcrafted weights: every loss starts at the size of a reference task's.

Formula: w_i = L_ref(0) / L_i(0) for the whole training, with the loss of each task at its first step.
Source: Leang et al., "Dynamic task weighting methods for multi-task networks in autonomous driving systems",
ITSC 2020 (handcrafted weighting, there for two tasks).
When: losses have unlike units, one task's is the yardstick, and nothing should move during training.
Costs: one number per task.
Fails: one batch decides for good, so a first loss that is not typical is scaled wrongly; what happens later
(a task that is learned, a task that stalls) is not seen. Until the reference has had its first loss nothing
can be compared, and every task weighs 1; later steps without the reference change nothing, since only its
first loss is asked for.
"""

from __future__ import annotations

from torch import Tensor

from medmtl.weighting._raw import ratio_where_known
from medmtl.weighting._reference import ReferenceRatio, ReferenceWeights
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._scales import FirstLoss


class FirstLossRatio(ReferenceRatio):
    """First loss of the reference task over a task's own; 1 until both are known.

    Args:
        n_tasks: number of tasks K.
        reference: position of the reference task.
    """

    def __init__(self, n_tasks: int, reference: int) -> None:
        super().__init__(n_tasks, reference)
        self.first = FirstLoss(n_tasks)

    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """The ratios, taking note of the losses that come for the first time; one of 0 does not count."""
        own = self.first(losses, present)
        return ratio_where_known(self.first.first[self.reference], own)


@WEIGHTINGS.register("handcrafted")
class HandcraftedWeights(ReferenceWeights):
    """First loss of a reference task over own first loss, then constant.

    Args:
        tasks: names of the K tasks.
        reference: the task whose weight is 1. While it has never been present, every weight is 1.
        importance: ``{task: factor}``; tasks not named have 1.
        imbalance: a second such factor, for priors that follow from label counts.

    Raises:
        ConfigError: the reference is none of the tasks, or a factor cannot be used.
    """

    ratio = FirstLossRatio
