"""Dynamic scaling: every loss is brought to the size of a reference task's, epoch by epoch.

Formula: w_i(t) = M_ref(t - 1) / M_i(t - 1) with M_i(t) the mean loss of task i over epoch t; 1 in the first
epoch.
Source: Leang et al., "Dynamic task weighting methods for multi-task networks in autonomous driving systems",
ITSC 2020 (dynamic task loss scaling, there for two tasks).
When: as ``handcrafted``, but losses fall at unlike rates, and an epoch is short against the training.
Costs: a sum per task and step.
Fails: like every inverse loss it favours what nears 0, an epoch late. An epoch without the reference goes by
the last epoch that had it, and until there is one every task weighs 1. Weights jump between epochs.
"""

from __future__ import annotations

from torch import Tensor

from medmtl.weighting._epoch_means import EpochMeans
from medmtl.weighting._raw import ratio_where_known
from medmtl.weighting._reference import ReferenceRatio, ReferenceWeights
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._slots import pick


class EpochLossRatio(ReferenceRatio):
    """Mean loss of the reference task over a task's own, each of its last epoch; 1 until both are known.

    Args:
        n_tasks: number of tasks K.
        reference: position of the reference task.
    """

    def __init__(self, n_tasks: int, reference: int) -> None:
        super().__init__(n_tasks, reference)
        self.means = EpochMeans(n_tasks)

    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """The ratios, taking the losses into this epoch's means."""
        self.means.add(losses, present)
        return ratio_where_known(self.means.last[self.reference], pick(self.means.last, present))

    def end_epoch(self) -> None:
        """Closes the epoch's means."""
        self.means.close()


@WEIGHTINGS.register("dynamic-scaling")
class DynamicScaling(ReferenceWeights):
    """Last epoch's mean loss of a reference task over own.

    The trainer calls :meth:`~medmtl.weighting.Weighting.end_epoch`.

    Args:
        tasks: names of the K tasks.
        reference: the task whose weight is 1. Until it has had an epoch, every weight is 1.
        importance: ``{task: factor}``; tasks not named have 1.
        imbalance: a second such factor, for priors that follow from label counts.

    Raises:
        ConfigError: the reference is none of the tasks, or a factor cannot be used.
    """

    ratio = EpochLossRatio
