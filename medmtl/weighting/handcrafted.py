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

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medmtl.weighting._bad_losses import Domain
from medmtl.weighting._checks import check_tasks, position_of
from medmtl.weighting._normalizers import NoNormalizer
from medmtl.weighting._raw import RawWeights
from medmtl.weighting._raw_normalized import RawNormalized
from medmtl.weighting._registry import WEIGHTINGS
from medmtl.weighting._scales import FirstLoss
from medmtl.weighting._weighed import TINY


class FirstLossRatio(RawWeights):
    """First loss of the reference task over a task's own; 1 until both are known.

    Args:
        n_tasks: number of tasks K.
        reference: position of the reference task.
    """

    undo_units = True
    domain: Domain = "non-negative"

    def __init__(self, n_tasks: int, reference: int) -> None:
        super().__init__()
        self.reference = reference
        self.first = FirstLoss(n_tasks)

    def forward(self, losses: Tensor, present: tuple[int, ...]) -> Tensor:
        """The ratios, taking note of the losses that come for the first time; one of 0 does not count."""
        own = self.first(losses, present)
        reference = self.first.first[self.reference]
        return torch.where((own > 0) & (reference > 0), reference / own.clamp_min(TINY), 1.0)


@WEIGHTINGS.register("handcrafted")
class HandcraftedWeights(RawNormalized):
    """First loss of a reference task over own first loss, then constant.

    Args:
        tasks: names of the K tasks.
        reference: the task whose weight is 1. While it has never been present, every weight is 1.
        importance: ``{task: factor}``; tasks not named have 1.
        imbalance: a second such factor, for priors that follow from label counts.

    Raises:
        ConfigError: the reference is none of the tasks, or a factor cannot be used.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        reference: str,
        importance: Mapping[str, float] | None = None,
        imbalance: Mapping[str, float] | None = None,
    ) -> None:
        names = check_tasks(tasks)
        super().__init__(
            names,
            raw=FirstLossRatio(len(names), position_of("reference", reference, names)),
            normalizer=NoNormalizer(),
            importance=importance,
            imbalance=imbalance,
        )
